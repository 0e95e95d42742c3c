//! System calls that neither std nor nix makes without `unsafe`, but for those that move datagrams.
//!
//! Signals are numbers here: nix knows them by name, and real-time signals have none. What a signal means to
//! a tool is decided in [`crate::runtime::signals`].

#![expect(
    unsafe_code,
    reason = "signals, the status of any child, inherited descriptors and some socket options have no safe wrapper"
)]

mod terminal;

use std::io::{self, PipeReader, PipeWriter};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{self, SA_RESTART, SIG_DFL, SIG_IGN, SIG_UNBLOCK, c_int, sigaction, sockaddr_storage};
use socket2::SockAddr;
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
use {nix::unistd::Pid, std::os::unix::process::ExitStatusExt, std::process::ExitStatus};

pub(crate) use terminal::{TerminalGuard, restore_terminal};

/// A signal that ends the tool and follows the first one this soon means the same: timeout(1) signals its child
/// and then the group.
const SAME: Duration = Duration::from_millis(300);

static INBOX: OnceLock<SignalInbox> = OnceLock::new();

/// The signals that the handler has caught and that have not been taken. The handler may interrupt any thread anywhere, so
/// it neither locks nor allocates (signal-safety(7)).
#[derive(Debug)]
pub(crate) struct SignalInbox {
    /// The signals that end the tool: bit 0 is signal 1.
    ending: AtomicU64,
    /// Those that were caught and not taken.
    pending: AtomicU64,
    /// The first that ends the tool, or 0.
    terminating: AtomicI32,
    /// When that was caught, in milliseconds after `start`.
    terminated_at: AtomicU64,
    start: Instant,
    /// Has a byte for each signal since the last [`SignalInbox::drain`].
    wakeup: PipeReader,
    /// The other end, which the handler writes to.
    waker: PipeWriter,
}

impl SignalInbox {
    /// Returns the one of this process.
    pub(crate) fn of_process() -> io::Result<&'static Self> {
        if let Some(inbox) = INBOX.get() {
            return Ok(inbox);
        }
        let (wakeup, waker) = io::pipe()?;
        for end in [wakeup.as_fd(), waker.as_fd()] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(INBOX.get_or_init(|| Self {
            ending: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            terminating: AtomicI32::new(0),
            terminated_at: AtomicU64::new(u64::MAX),
            start: Instant::now(),
            wakeup,
            waker,
        }))
    }

    /// Returns the first signal that was caught and ends the tool.
    pub(crate) fn terminating() -> Option<c_int> {
        let signal = INBOX.get()?.terminating.load(Ordering::Relaxed);
        (signal != 0).then_some(signal)
    }

    /// Has `signal` end the tool: the first signal of these that is caught is noted, one that is caught 300 ms later or
    /// more ends it at once.
    pub(crate) fn end_with(&self, signal: c_int) {
        self.ending.fetch_or(bit(signal), Ordering::Relaxed);
    }

    /// Returns whether `signal` was caught since the last call.
    pub(crate) fn take(&self, signal: c_int) -> bool {
        self.pending.fetch_and(!bit(signal), Ordering::Relaxed) & bit(signal) != 0
    }

    /// Empties the pipe that [`SignalInbox::as_fd`] returns.
    pub(crate) fn drain(&self) {
        let mut bytes = [0; 64];
        while nix::unistd::read(&self.wakeup, &mut bytes) == Ok(bytes.len()) {}
    }

    fn note(&self, signal: c_int) {
        self.pending.fetch_or(bit(signal), Ordering::Relaxed);
        if self.ending.load(Ordering::Relaxed) & bit(signal) != 0 {
            let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            if self.terminating.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.terminated_at.store(now, Ordering::Relaxed);
            } else if Duration::from_millis(now.saturating_sub(self.terminated_at.load(Ordering::Relaxed)))
                >= SAME
            {
                restore_terminal();
                raise(signal);
                // SAFETY: _exit(2) may be called anywhere, and does not return.
                unsafe { libc::_exit(128 + signal) };
            }
        }
        self.wake();
    }

    /// Ends a wait for [`SignalInbox::as_fd`].
    pub(crate) fn wake(&self) {
        // Where the pipe is full, the wait ends anyway.
        let _ = nix::unistd::write(&self.waker, &[0]);
    }
}

impl AsFd for SignalInbox {
    /// Returns a descriptor that is readable when a signal was caught.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }
}

/// Catches `signal` from now on, with a handler that exec(2) resets. Before [`SignalInbox::of_process`] it is not
/// noted.
pub(crate) fn catch(signal: c_int) -> io::Result<()> {
    set_action(signal, catching()).map(drop)
}

/// Catches `signal` as [`catch`] does, unless it is ignored. Returns whether it is caught. It may not arrive meanwhile.
pub(crate) fn catch_unless_ignored(signal: c_int) -> io::Result<bool> {
    // To ask first would take one more call for each of sixty signals.
    match set_action(signal, catching()) {
        Ok(SIG_IGN) => ignore(signal).map(|()| false),
        Ok(_) => Ok(true),
        // valgrind(1) keeps one to itself.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
        Err(error) => Err(error),
    }
}

fn catching() -> libc::sighandler_t {
    note as extern "C" fn(c_int) as libc::sighandler_t
}

/// Handles every signal that is caught.
extern "C" fn note(signal: c_int) {
    let errno = Errno::last_raw();
    if let Some(inbox) = INBOX.get() {
        inbox.note(signal);
    }
    Errno::set_raw(errno);
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Returns whether this process ignores `signal`.
pub(crate) fn is_ignored(signal: c_int) -> io::Result<bool> {
    // SAFETY: all zeros are a valid sigaction, which is made of integers and null pointers.
    let mut action: sigaction = unsafe { mem::zeroed() };
    // SAFETY: no action is set, and the one in force is written to where there is room for it.
    Errno::result(unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) })?;
    Ok(action.sa_sigaction == SIG_IGN)
}

/// Ignores `signal` from now on. What this process executes ignores it as well.
pub(crate) fn ignore(signal: c_int) -> io::Result<()> {
    set_action(signal, SIG_IGN).map(drop)
}

/// Has `signal` do what it does by default from now on.
pub(crate) fn reset(signal: c_int) -> io::Result<()> {
    set_action(signal, SIG_DFL).map(drop)
}

/// Ends or stops this process as `signal` does by default, and returns when it is continued. Returns at once if the
/// system ignores that: the first process of a container does not die of a signal, and nothing stops a process group
/// whose shell is gone.
pub(crate) fn raise(signal: c_int) {
    // It only fails for signals that cannot be caught, and no caller passes one.
    let _ = reset(signal);
    // SAFETY: all zeros are a valid sigset_t, an empty one once sigemptyset(3) has seen it. All of these calls
    // may be made in a signal handler.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(SIG_UNBLOCK, &raw const set, ptr::null_mut());
        libc::raise(signal);
    }
}

/// Sets the handler of `signal`, and returns the former one.
fn set_action(signal: c_int, handler: libc::sighandler_t) -> io::Result<libc::sighandler_t> {
    // SAFETY: all zeros are a valid sigaction. The handler is a constant of the system or `note`, which does
    // only what signal-safety(7) allows, and takes what a handler without SA_SIGINFO is given. The former action is
    // written to where there is room for it.
    unsafe {
        let (mut action, mut before): (sigaction, sigaction) = (mem::zeroed(), mem::zeroed());
        action.sa_sigaction = handler;
        action.sa_flags = SA_RESTART;
        libc::sigfillset(&raw mut action.sa_mask);
        Errno::result(libc::sigaction(signal, &raw const action, &raw mut before))?;
        Ok(before.sa_sigaction)
    }
}

/// Returns a child that has ended, that of number `pid` or any, and leaves it in the table of processes.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(crate) fn peek_child(pid: Option<Pid>) -> io::Result<Option<(Pid, ExitStatus)>> {
    let (kind, number) = pid.map_or((libc::P_ALL, 0), |pid| (libc::P_PID, pid.as_raw().cast_unsigned()));
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: all zeros are a valid siginfo_t, and mean that there is no child where the system leaves it so. Of
    // a child that has ended it has the number and the status.
    let (pid, code, status) = unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        Errno::result(libc::waitid(kind, number as _, &raw mut info, flags))?;
        (info.si_pid(), info.si_code, info.si_status())
    };
    // As wait(2) gives it.
    let status = if code == libc::CLD_EXITED { (status & 0xff) << 8 } else { status };
    Ok((pid != 0).then(|| (Pid::from_raw(pid), ExitStatus::from_raw(status))))
}

/// Takes over descriptor `number`, which the parent of this process has left open, and closes the original. Must be
/// called before anything else is opened, which may get that number.
pub(crate) fn take_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a copy is made of whatever is open there, and nothing is changed.
    let copy = Errno::result(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the copy has just been made, and nothing else owns it.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    nix::unistd::close(number)?;
    Ok(copy)
}

/// Returns a copy of descriptor `number` of process `pid`, which this one must be allowed to trace
/// (pidfd_getfd(2)).
#[cfg(target_os = "linux")]
pub(crate) fn copy_descriptor(pid: u32, number: RawFd) -> io::Result<OwnedFd> {
    let call = |name, first: i64, second: i64| {
        // SAFETY: both calls take numbers only, and open a descriptor.
        let opened = Errno::result(unsafe { libc::syscall(name, first, second, 0_i64) })?;
        let opened = RawFd::try_from(opened).map_err(io::Error::other)?;
        // SAFETY: it has just been opened, and nothing else owns it.
        io::Result::Ok(unsafe { OwnedFd::from_raw_fd(opened) })
    };
    let process = call(libc::SYS_pidfd_open, pid.into(), 0)?;
    call(libc::SYS_pidfd_getfd, process.as_raw_fd().into(), number.into())
}

/// Which machines may fragment a datagram that is longer than the MTU of a link (ip(7), `IP_MTU_DISCOVER`). By default this
/// machine does, to the MTU of the path that it knows; a router drops a longer one of IPv4 and reports that.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fragments {
    /// This machine and each router: IPv4 packets do not have the bit that forbids it.
    Anywhere,
    /// No machine: IPv4 packets have that bit, and a send fails where the datagram is longer than the known MTU.
    Forbidden,
}

/// Sets which machines may fragment what `socket` sends over IPv6, or else over IPv4. Routers may fragment the segments
/// of one message in any case.
#[cfg(target_os = "linux")]
pub(crate) fn set_fragments(socket: BorrowedFd<'_>, over_v6: bool, fragments: Fragments) -> io::Result<()> {
    let (level, name) = if over_v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    };
    // Those of IPv6 have the same numbers.
    let value: c_int = match fragments {
        Fragments::Anywhere => libc::IP_PMTUDISC_DONT,
        Fragments::Forbidden => libc::IP_PMTUDISC_DO,
    };
    set_option(socket, level, name, &value)
}

/// Returns the MTU of the path that `socket` is connected to, in bytes. An IPv6 socket with an IPv4 peer has that of IPv4.
#[cfg(target_os = "linux")]
#[expect(clippy::cast_possible_truncation, reason = "a value is a few bytes long")]
pub(crate) fn path_mtu(socket: BorrowedFd<'_>, over_v6: bool) -> io::Result<usize> {
    let (level, name) =
        if over_v6 { (libc::IPPROTO_IPV6, libc::IPV6_MTU) } else { (libc::IPPROTO_IP, libc::IP_MTU) };
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as _;
    let pointer = (&raw mut value).cast();
    // SAFETY: the kernel writes `len` bytes at most, which is the size of the int.
    Errno::result(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, pointer, &raw mut len) })?;
    usize::try_from(value).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Joins `group` to receive from `source`, on the interface of this number, or with 0 on one that the system chooses
/// (RFC 3678, section 5.1). May be called for several sources of a group.
pub(crate) fn join_source(
    socket: BorrowedFd<'_>,
    group: IpAddr,
    interface: u32,
    source: IpAddr,
) -> io::Result<()> {
    let request = libc::group_source_req {
        gsr_interface: interface,
        gsr_group: storage(group),
        gsr_source: storage(source),
    };
    set_option(socket, level(group), libc::MCAST_JOIN_SOURCE_GROUP, &request)
}

/// Returns whether `socket` has joined `group` on the interface of this number: it has a list of sources there (RFC
/// 3678, section 5.2.2), which is empty where it receives from all.
#[cfg(target_os = "linux")]
#[expect(clippy::cast_possible_truncation, reason = "a value is a few hundred bytes long")]
pub(crate) fn has_joined(socket: BorrowedFd<'_>, group: IpAddr, interface: u32) -> bool {
    /// `struct group_filter` of `include/uapi/linux/in.h`, with room for no source.
    #[repr(C)]
    struct Filter {
        interface: u32,
        group: sockaddr_storage,
        mode: u32,
        sources: u32,
    }
    let mut filter = Filter { interface, group: storage(group), mode: 0, sources: 0 };
    let mut len = size_of::<Filter>() as _;
    let pointer = (&raw mut filter).cast();
    // SAFETY: the kernel reads and writes `len` bytes at most, which is the size of the structure.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level(group), libc::MCAST_MSFILTER, pointer, &raw mut len)
    };
    result == 0
}

/// Returns `false`: the system is not asked.
#[cfg(not(target_os = "linux"))]
pub(crate) fn has_joined(_: BorrowedFd<'_>, _: IpAddr, _: u32) -> bool {
    false
}

/// Has `socket` send to IPv4 groups through the interface of this number.
pub(crate) fn set_multicast_interface_v4(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    let any = libc::in_addr { s_addr: 0 };
    let imr_ifindex = c_int::try_from(interface).map_err(io::Error::other)?;
    let request = libc::ip_mreqn { imr_multiaddr: any, imr_address: any, imr_ifindex };
    set_option(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)
}

/// Returns the level of the options for groups such as `group`.
fn level(group: IpAddr) -> c_int {
    if group.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 }
}

/// Returns `ip` as the system has it.
fn storage(ip: IpAddr) -> sockaddr_storage {
    let address = SockAddr::from(SocketAddr::new(ip, 0));
    // SAFETY: all zeros are a valid sockaddr_storage, and an address is not longer than that.
    unsafe {
        let mut storage: sockaddr_storage = mem::zeroed();
        let bytes = address.as_ptr().cast::<u8>();
        ptr::copy_nonoverlapping(bytes, (&raw mut storage).cast(), address.len() as usize);
        storage
    }
}

/// Sets an option of `socket`. The system reads a `T` for the option of this `level` and `name`, and writes nothing.
#[expect(clippy::cast_possible_truncation, reason = "a value is a few hundred bytes long")]
fn set_option<T: Copy>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let pointer = (&raw const *value).cast();
    // SAFETY: the system reads as many bytes as the value has, which is there for as long as the call takes.
    Errno::result(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, pointer, size_of::<T>() as _)
    })?;
    Ok(())
}

/// Returns the number of datagrams that the kernel has dropped at `socket` since it was opened. It wraps around at
/// 2^32.
#[cfg(target_os = "linux")]
#[expect(clippy::cast_possible_truncation, reason = "a value is a few bytes long")]
pub(crate) fn socket_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    /// socket(7) does not list it: `include/uapi/asm-generic/socket.h` of Linux 4.12.
    const SO_MEMINFO: c_int = 55;
    /// The number of its counters, and the place of this one: `include/uapi/linux/sock_diag.h`.
    const SK_MEMINFO_VARS: usize = 9;
    const SK_MEMINFO_DROPS: usize = 8;
    let mut counters = [0_u32; SK_MEMINFO_VARS];
    let mut len = size_of::<[u32; SK_MEMINFO_VARS]>() as _;
    let pointer = counters.as_mut_ptr().cast();
    // SAFETY: the kernel writes `len` bytes at most, which is the size of the array.
    Errno::result(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_MEMINFO, pointer, &raw mut len)
    })?;
    Ok(counters[SK_MEMINFO_DROPS])
}
