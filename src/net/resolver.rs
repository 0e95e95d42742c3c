//! Looks names up in threads of their own, because nothing ends a call of getaddrinfo(3): no deadline and no signal.
//!
//! Nothing here waits. A descriptor becomes readable when there is an answer; the caller decides how long to wait for
//! it. What needs no look-up is answered at once, and starts no thread.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::net::addr::Addr;
use crate::net::endpoint::{self, Endpoint, Family};

/// How many names are looked up at once. An access list may have thousands of them.
const THREADS: usize = 16;

/// A question to the resolver of the system.
#[derive(Clone, Debug)]
pub struct Query {
    subject: Subject,
    /// The file and the line that name it, for errors.
    place: Option<String>,
}

#[derive(Clone, Debug)]
enum Subject {
    Local(Endpoint, Family),
    Remote(Endpoint, Family),
    Host(String),
}

/// Look-ups that run at the same time.
#[derive(Debug)]
pub struct Lookups {
    progress: Arc<Mutex<Progress>>,
    /// Receives a byte with each answer. There is none where nothing had to be looked up.
    answered: Option<UnixStream>,
}

/// How far some look-ups are.
#[derive(Debug)]
struct Progress {
    /// Those that no thread has begun, with their numbers.
    queue: VecDeque<(usize, Query)>,
    /// The addresses of each query, best first.
    answers: Vec<Vec<Addr>>,
    /// How many have no answer.
    left: usize,
    /// The first failure, which ends all of them.
    failure: Option<anyhow::Error>,
}

impl Query {
    /// Asks for the addresses of `endpoint` to bind.
    #[must_use]
    pub fn local(endpoint: &Endpoint, family: Family) -> Self {
        Self { subject: Subject::Local(endpoint.clone(), family), place: None }
    }

    /// Asks for the addresses of `endpoint` to send to.
    #[must_use]
    pub fn remote(endpoint: &Endpoint, family: Family) -> Self {
        Self { subject: Subject::Remote(endpoint.clone(), family), place: None }
    }

    /// Asks for all addresses of the host `name`, which is at `place`. They have port 0.
    #[must_use]
    pub fn host(name: String, place: Option<String>) -> Self {
        Self { subject: Subject::Host(name), place }
    }

    /// Returns `why` as the error that it cannot be resolved.
    #[must_use]
    pub fn failed(&self, why: anyhow::Error) -> anyhow::Error {
        self.locate(why.context(format!("cannot resolve {self}")))
    }

    /// Returns `error` with the place of the name.
    fn locate(&self, error: anyhow::Error) -> anyhow::Error {
        match &self.place {
            Some(place) => error.context(place.clone()),
            None => error,
        }
    }

    fn needs_look_up(&self) -> bool {
        match &self.subject {
            Subject::Local(endpoint, _) | Subject::Remote(endpoint, _) => endpoint.needs_look_up(),
            Subject::Host(_) => true,
        }
    }

    /// Returns the addresses. May wait for a name server.
    fn answer(&self) -> Result<Vec<Addr>> {
        let found = match &self.subject {
            Subject::Local(endpoint, family) => endpoint.addresses_here(*family),
            Subject::Remote(endpoint, family) => endpoint.addresses_there(*family),
            Subject::Host(name) => endpoint::addresses_of(name),
        };
        found.map_err(|error| self.locate(error))
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Local(endpoint, _) | Subject::Remote(endpoint, _) => endpoint.fmt(f),
            Subject::Host(name) => f.write_str(name),
        }
    }
}

impl Lookups {
    /// Answers what needs no look-up, and starts to look up the rest.
    pub fn start(queries: &[Query]) -> Result<Self> {
        let mut answers = vec![Vec::new(); queries.len()];
        let mut queue = VecDeque::new();
        for (number, query) in queries.iter().enumerate() {
            if query.needs_look_up() {
                queue.push_back((number, query.clone()));
            } else {
                answers[number] = query.answer()?;
            }
        }
        let left = queue.len();
        let progress = Arc::new(Mutex::new(Progress { queue, answers, left, failure: None }));
        if left == 0 {
            return Ok(Self { progress, answered: None });
        }
        let (answered, answer) = UnixStream::pair().context("cannot create a pair of sockets")?;
        answered.set_nonblocking(true).context("cannot set an option of a socket")?;
        answer.set_nonblocking(true).context("cannot set an option of a socket")?;
        for started in 0..left.min(THREADS) {
            let (progress, answer) = (Arc::clone(&progress), answer.try_clone());
            let thread =
                answer.and_then(|answer| thread::Builder::new().spawn(move || work(&progress, &answer)));
            // One thread looks up all of them, if there can be no more.
            if let (Err(error), 0) = (thread, started) {
                return Err(error).context("cannot start a thread that looks names up");
            }
        }
        Ok(Self { progress, answered: Some(answered) })
    }

    /// Returns a descriptor that is readable when [`Lookups::take`] has something new to return.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.answered.as_ref().map(AsFd::as_fd)
    }

    /// Returns the addresses of each query, best first, once all of them are known. Fails as soon as one query has.
    pub fn take(&mut self) -> Result<Option<Vec<Vec<Addr>>>> {
        if let Some(answered) = &mut self.answered {
            let mut bytes = [0; 64];
            while answered.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
        }
        let mut progress = lock(&self.progress);
        match progress.failure.take() {
            Some(error) => Err(error),
            None => Ok((progress.left == 0).then(|| std::mem::take(&mut progress.answers))),
        }
    }

    /// Returns the number of the first query that has no answer.
    #[must_use]
    pub fn first_unanswered(&self) -> usize {
        // A name without an address is a failure.
        lock(&self.progress).answers.iter().position(Vec::is_empty).unwrap_or_default()
    }
}

impl Drop for Lookups {
    /// Looks nothing more up. A look-up that has begun goes on in its thread, which does not keep the process from exiting.
    fn drop(&mut self) {
        lock(&self.progress).queue.clear();
    }
}

/// Answers queries until there are no more.
fn work(progress: &Mutex<Progress>, mut answer: &UnixStream) {
    loop {
        let Some((number, query)) = lock(progress).queue.pop_front() else { return };
        let found = query.answer();
        let mut progress = lock(progress);
        match found {
            Ok(addresses) => {
                progress.answers[number] = addresses;
                progress.left -= 1;
            }
            Err(error) => {
                progress.failure.get_or_insert(error);
                progress.queue.clear();
            }
        }
        drop(progress);
        // It fails where bytes wait that have not been read, or where the other end is closed.
        let _: io::Result<_> = answer.write(&[0]);
    }
}

/// Locks `progress`. It cannot be poisoned: no code panics while it holds the lock.
fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn remote(text: &str) -> Query {
        Query::remote(&Endpoint::remote(text).unwrap(), Family::V4)
    }

    #[test]
    fn an_address_needs_no_thread() {
        let mut lookups = Lookups::start(&[remote("192.0.2.1:53"), remote(":9")]).unwrap();
        assert!(lookups.fd().is_none());
        let addresses = lookups.take().unwrap().unwrap();
        assert_eq!(addresses, [["192.0.2.1:53".parse().unwrap()], ["127.0.0.1:9".parse().unwrap()]]);
        assert!(Lookups::start(&[]).unwrap().take().unwrap().unwrap().is_empty());
    }

    #[test]
    fn answers_are_in_the_order_of_the_queries_and_the_descriptor_announces_them() {
        let queries: Vec<_> = (1..100)
            .flat_map(|port| ["localhost", "127.0.0.2"].map(|host| remote(&format!("{host}:{port}"))))
            .collect();
        let mut lookups = Lookups::start(&queries).unwrap();
        let addresses = loop {
            if let Some(addresses) = lookups.take().unwrap() {
                break addresses;
            }
            let mut watched = [PollFd::new(lookups.fd().unwrap(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut watched, PollTimeout::from(30_000_u16)), Ok(1));
        };
        let mut expected = (1..100).flat_map(|port| [([127, 0, 0, 1], port), ([127, 0, 0, 2], port)]);
        for addresses in &addresses {
            assert_eq!(addresses[0], SocketAddr::from(expected.next().unwrap()).into());
        }
        assert_eq!(expected.next(), None);
    }
}
