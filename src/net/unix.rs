//! Unix datagram sockets (unix(7)): their addresses as text, and what is special about them.
//!
//! The engines of [`crate::net`] send and receive one datagram a call here: the kernel holds a few at a time
//! (`net.unix.max_dgram_qlen`), and a sender waits for room.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind};
use std::mem::{offset_of, size_of};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::{ECONNREFUSED, ENOENT, EPIPE, sockaddr_un};
use socket2::{SockAddr, Socket};

use super::failure::Failure;
use super::owner;
use crate::escape;
use crate::stats::{IcmpKind, IcmpReport};

mod file;
mod names;
mod sender;

pub(super) use file::SocketFile;
pub use file::inode;
pub(super) use sender::UnixSender;
pub use sender::is_file;

use names::Number;

/// The room for a path with its NUL, or for a NUL and an abstract name, in bytes.
const ROOM: usize = size_of::<sockaddr_un>() - offset_of!(sockaddr_un, sun_path);
/// The longest path or abstract name, in bytes.
const LONGEST: usize = ROOM - 1;

/// Whether a name need not be that of a file, and the system names a socket that is bound to an empty name.
const HAS_ABSTRACT_NAMES: bool = cfg!(target_os = "linux");

/// Returns the refusal that a send or a connect has failed with, if it is one: no process receives what is sent there.
pub(super) fn refusal(error: &io::Error) -> Option<IcmpReport> {
    let (kind, errno) = match error.raw_os_error()? {
        // EPIPE is that of a socket that is closed for receiving.
        ECONNREFUSED | EPIPE => (IcmpKind::SocketClosed, Errno::ECONNREFUSED),
        ENOENT => (IcmpKind::NoSocket, Errno::ENOENT),
        _ => return None,
    };
    Some(IcmpReport { kind, reporter: None, is_from_another_host: false, mtu: None, errno })
}

/// The process that has sent a datagram through a unix socket, as the system reports it (unix(7), `SCM_CREDENTIALS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// The name of a unix socket: a path, or a NUL and an abstract name. A socket that is not bound has none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixAddr(Number);

impl UnixAddr {
    /// The name of a socket that is not bound.
    pub const NONE: Self = Self(Number::NONE);

    /// Parses what is behind `unix:`: a path, or `@` and an abstract name. `\xNN` is a byte, as it is printed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let name = unescaped(text);
        let (what, name) = match name.strip_prefix(b"@") {
            Some(_) if !HAS_ABSTRACT_NAMES => {
                return Err(
                    "abstract names exist on Linux only; write a path, as in unix:/tmp/x.sock".to_owned()
                );
            }
            Some(name) => ("name", [b"\0", name].concat()),
            None => ("path", name),
        };
        let len = name.strip_prefix(b"\0").map_or(name.len(), <[u8]>::len);
        if len == 0 {
            let example = if what == "name" { "unix:@name" } else { "unix:/run/x.sock" };
            return Err(format!("no {what}; write it as in {example}"));
        }
        if what == "path" && name.contains(&0) {
            return Err("a path cannot contain a NUL".to_owned());
        }
        if len > LONGEST {
            return Err(format!(
                "the {what} of a unix socket has at most {LONGEST} bytes, and this has {len}"
            ));
        }
        Ok(Self(Number::of_given(&name)))
    }

    /// Returns the address of a peer whose socket is at `path`.
    pub(super) fn of_peer(path: &Path) -> Self {
        Self(Number::of_received(path.as_os_str().as_bytes()))
    }

    /// Returns the name in `address`, which is that of a unix socket.
    pub(super) fn of_socket(address: &SockAddr) -> Self {
        if let Some(path) = address.as_pathname() {
            return Self(Number::of_received(path.as_os_str().as_bytes()));
        }
        let name = address.as_abstract_namespace().filter(|name| !name.is_empty());
        name.map_or(Self::NONE, |name| Self(Number::of_received(&[b"\0", name].concat())))
    }

    /// Keeps the name forever, however many others are received.
    pub(super) fn keep(self) -> Self {
        self.0.name().map_or(self, |name| Self(Number::of_given(&name)))
    }

    /// Returns the name of a peer in `address`, as the system has written it to the first `len` bytes, if there is one.
    #[cfg(target_os = "linux")]
    pub(super) fn of_raw(address: &sockaddr_un, len: usize) -> Option<Self> {
        let name = address.sun_path.map(|c| u8::from_ne_bytes(c.to_ne_bytes()));
        let len = len.saturating_sub(offset_of!(sockaddr_un, sun_path)).min(ROOM);
        let name = match &name[..len] {
            [] => return None,
            name @ [0, ..] => name,
            // A NUL ends it, if there was room for one.
            path => path.split(|byte| *byte == 0).next().unwrap_or_default(),
        };
        Some(Self(Number::of_received(name)))
    }

    /// Binds `socket` to it. Returns its file, if it has a path. One without a name gets one that is free.
    pub(super) fn bind(self, socket: &Socket) -> Result<Option<SocketFile>, Failure> {
        match self.path() {
            Some(path) => SocketFile::bind(socket, &path).map(Some),
            None if self == Self::NONE && !HAS_ABSTRACT_NAMES => SocketFile::bind_anywhere(socket).map(Some),
            None => match self.sock_addr().and_then(|address| socket.bind(&address)) {
                Ok(()) => Ok(None),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    Err(Failure::NameInUse(self.0.name().and_then(|name| owner::of_name(&name))))
                }
                Err(error) => Err(Failure::Os(error)),
            },
        }
    }

    /// Returns it as the system takes it.
    pub(super) fn sock_addr(self) -> io::Result<SockAddr> {
        match self.0.name() {
            Some(name) => SockAddr::unix(OsStr::from_bytes(&name)),
            None if self == Self::NONE => SockAddr::unix(""),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Returns its path, if it has one.
    #[must_use]
    pub fn path(self) -> Option<PathBuf> {
        let name = self.0.name().filter(|name| name.first() != Some(&0))?;
        Some(OsStr::from_bytes(&name).into())
    }
}

impl fmt::Display for UnixAddr {
    /// Writes it as it is parsed, in one word. Space, and what is not safe to look at, is written as `\xNN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unix:")?;
        let name = self.0.name().unwrap_or_default();
        let name = match &name[..] {
            [0, name @ ..] => {
                f.write_char('@')?;
                name
            }
            // Neither is an abstract name, nor the beginning of a URL.
            [b'@', ..] => {
                f.write_str("./")?;
                &name
            }
            [b'/', b'/', name @ ..] => {
                f.write_str(r"/\x2f")?;
                name
            }
            name => name,
        };
        for chunk in name.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_whitespace() || c == '\\' || escape::is_unsafe(c) {
                    f.write_str(&escape::bytes(c.encode_utf8(&mut [0; 4]).as_bytes()))?;
                } else {
                    f.write_char(c)?;
                }
            }
            f.write_str(&escape::bytes(chunk.invalid()))?;
        }
        Ok(())
    }
}

impl fmt::Debug for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns what is behind `unix:`, if `text` begins so. A URL has two slashes there.
pub(super) fn name(text: &str) -> Option<&str> {
    let (scheme, name) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("unix").then(|| name.strip_prefix("//").unwrap_or(name))
}

/// Returns the bytes of `text`, in which `\xNN` is one.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digit = |place: usize| rest.get(place).and_then(|digit| char::from(*digit).to_digit(16));
        let value = match (rest.starts_with(b"\\x"), digit(2), digit(3)) {
            (true, Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &rest[4..] } else { behind };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::{prop_assert, prop_assert_eq, prop_assume, proptest};
    use socket2::{Domain, Type};

    fn socket() -> Socket {
        Socket::new(Domain::UNIX, Type::DGRAM, None).unwrap()
    }

    #[test]
    fn an_address_is_read_as_it_is_printed() {
        for text in
            ["/run/x.sock", "x", "/\\x2fx", "./@x", "a/\u{4f60}", "a\\x20b", "/tmp/\\x1b\\x09\\x5c\\xff"]
        {
            assert_eq!(UnixAddr::parse(text).unwrap().to_string(), format!("unix:{text}"));
        }
        let name = UnixAddr::of_peer(Path::new(OsStr::from_bytes(b"\x1b\xff\\\t")));
        assert_eq!(UnixAddr::parse("\\x1b\\xff\\x5c\\x09"), Ok(name));
        // A backslash that begins no byte is itself.
        assert_eq!(UnixAddr::parse("\\xg\\").unwrap().to_string(), "unix:\\x5cxg\\x5c");
        let at = UnixAddr::of_peer(Path::new("@x"));
        assert_eq!(at.to_string(), "unix:./@x");
    }

    proptest! {
        #[test]
        fn any_path_is_read_as_it_is_printed(path in vec(1..=u8::MAX, 1..=LONGEST)) {
            let address = UnixAddr::of_peer(Path::new(OsStr::from_bytes(&path)));
            let shown = address.to_string();
            prop_assert!(!shown.contains(|c: char| c.is_whitespace() || escape::is_unsafe(c)));
            // A path that begins with @ has two characters more.
            prop_assume!(path[0] != b'@');
            prop_assert_eq!(name(&shown).map(UnixAddr::parse), Some(Ok(address)));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_abstract_name_is_read_as_it_is_printed_and_as_the_system_has_it() {
        for text in ["@name", "@@", "@a\\x00b\\x00"] {
            let address = UnixAddr::parse(text).unwrap();
            assert_eq!(address.to_string(), format!("unix:{text}"));
            assert_eq!(UnixAddr::of_socket(&address.sock_addr().unwrap()), address);
            assert_eq!(address.path(), None);
        }
        let unnamed = socket().local_addr().unwrap();
        assert_eq!(UnixAddr::of_socket(&unnamed), UnixAddr::NONE);
    }

    #[test]
    fn a_name_that_no_socket_can_have_is_explained() {
        let long = "x".repeat(LONGEST + 1);
        assert!(UnixAddr::parse(&long[1..]).is_ok());
        let too_long = |what| {
            format!("the {what} of a unix socket has at most {LONGEST} bytes, and this has {}", LONGEST + 1)
        };
        assert_eq!(UnixAddr::parse(&long), Err(too_long("path")));
        assert_eq!(UnixAddr::parse(""), Err("no path; write it as in unix:/run/x.sock".to_owned()));
        assert_eq!(UnixAddr::parse("a\\x00"), Err("a path cannot contain a NUL".to_owned()));
        if cfg!(target_os = "linux") {
            assert!(UnixAddr::parse(&format!("@{}", &long[1..])).is_ok());
            assert_eq!(UnixAddr::parse(&format!("@{long}")), Err(too_long("name")));
            assert_eq!(UnixAddr::parse("@"), Err("no name; write it as in unix:@name".to_owned()));
        } else {
            assert!(UnixAddr::parse("@x").unwrap_err().starts_with("abstract names exist on Linux only"));
        }
    }
}
