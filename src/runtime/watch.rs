//! Many descriptors behind one: a wait costs the same for any number of them. On Linux that is epoll(7), elsewhere
//! kqueue(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

/// The number of descriptors that one call reports at most.
pub const REPORTED: usize = 64;

/// Descriptors that are watched until they are closed. It is readable itself when one of them is, or has an error.
#[derive(Debug)]
pub struct Watch(system::Queue);

impl Watch {
    /// Creates one that watches nothing yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self(system::new_queue()?))
    }

    /// Watches `fd` as well, which is called `name`.
    pub fn add(&self, fd: BorrowedFd<'_>, name: usize) -> io::Result<()> {
        Ok(system::add(&self.0, fd, name)?)
    }

    /// Returns the names of descriptors that are ready now: [`REPORTED`] of them, if there are more, and the others when it
    /// is called again.
    pub fn ready(&self) -> io::Result<Vec<usize>> {
        loop {
            match system::ready(&self.0) {
                Err(Errno::EINTR) => {}
                found => return Ok(found?),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        system::as_fd(&self.0)
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::os::fd::{AsFd, BorrowedFd};

    pub(super) use nix::sys::epoll::Epoll as Queue;
    use nix::sys::epoll::{EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

    pub(super) fn new_queue() -> nix::Result<Queue> {
        Queue::new(EpollCreateFlags::EPOLL_CLOEXEC)
    }

    pub(super) fn as_fd(queue: &Queue) -> BorrowedFd<'_> {
        queue.0.as_fd()
    }

    pub(super) fn add(queue: &Queue, fd: BorrowedFd<'_>, name: usize) -> nix::Result<()> {
        queue.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, name as u64))
    }

    pub(super) fn ready(queue: &Queue) -> nix::Result<Vec<usize>> {
        let mut events = [EpollEvent::empty(); super::REPORTED];
        let number = queue.wait(&mut events, EpollTimeout::ZERO)?;
        Ok(events[..number].iter().filter_map(|event| usize::try_from(event.data()).ok()).collect())
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

    use nix::libc::timespec;
    pub(super) use nix::sys::event::Kqueue as Queue;
    use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent};

    const AT_ONCE: timespec = timespec { tv_sec: 0, tv_nsec: 0 };

    pub(super) fn new_queue() -> nix::Result<Queue> {
        Queue::new()
    }

    pub(super) fn as_fd(queue: &Queue) -> BorrowedFd<'_> {
        AsFd::as_fd(queue)
    }

    pub(super) fn add(queue: &Queue, fd: BorrowedFd<'_>, name: usize) -> nix::Result<()> {
        let event = event(fd.as_raw_fd().unsigned_abs() as usize, name);
        queue.kevent(&[event], &mut [], Some(AT_ONCE)).map(drop)
    }

    pub(super) fn ready(queue: &Queue) -> nix::Result<Vec<usize>> {
        let mut events = [event(0, 0); super::REPORTED];
        let number = queue.kevent(&[], &mut events, Some(AT_ONCE))?;
        Ok(events[..number].iter().map(|event| event.udata().cast_unsigned()).collect())
    }

    fn event(fd: usize, name: usize) -> KEvent {
        let (filter, flags) = (EventFilter::EVFILT_READ, EvFlags::EV_ADD);
        KEvent::new(fd, filter, flags, FilterFlag::empty(), 0, name.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::poll::{Interest, PollSet};
    use std::io::{Read, Write, pipe};
    use std::time::Instant;

    #[test]
    fn each_descriptor_that_is_ready_is_reported_by_its_name_until_it_is_read() {
        let mut pipes: Vec<_> = (0..100).map(|_| pipe().unwrap()).collect();
        let watch = Watch::new().unwrap();
        for (place, (reader, _)) in pipes.iter().enumerate() {
            watch.add(reader.as_fd(), 1000 + place).unwrap();
        }
        assert_eq!(watch.ready().unwrap(), [0; 0]);
        for place in [7, 99] {
            pipes[place].1.write_all(b"x").unwrap();
        }
        let mut set = PollSet::new();
        let token = set.add(watch.as_fd(), Interest::Read);
        assert!(set.wait(Some(Instant::now())).unwrap().contains(token));
        for _ in 0..2 {
            let mut ready = watch.ready().unwrap();
            ready.sort_unstable();
            assert_eq!(ready, [1007, 1099]);
        }
        assert_eq!(pipes[7].0.read(&mut [0]).unwrap(), 1);
        assert_eq!(watch.ready().unwrap(), [1099]);
    }
}
