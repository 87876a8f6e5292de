//! Unix sockets: their addresses, their files, and who is at the other end. Their streams are like
//! TCP's: the same calls, on a descriptor of another family.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockType, SockaddrStorage, UnixAddr};

use super::{canonical, open};
use crate::address::{Address, UnixName};
use crate::options::ListenOptions;

/// The file of a Unix socket, which is removed with this, unless a socket is bound to it still.
#[derive(Debug)]
pub(super) struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        remove_stale(&self.0);
    }
}

/// Removes the file of a Unix socket that no socket is bound to any more; whether it did.
///
/// Who asks by a datagram socket makes no connection to whoever listens there: it's the wrong type
/// (`EPROTOTYPE`). Linux says "refused" of files that are no sockets, too.
fn remove_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refuses = |fd: OwnedFd| {
        let connect = |at| socket::connect(fd.as_raw_fd(), &at);
        UnixAddr::new(path).and_then(connect) == Err(Errno::ECONNREFUSED)
    };
    is_socket
        && open::socket(AddressFamily::Unix, SockType::Datagram).is_ok_and(refuses)
        && fs::remove_file(path).is_ok()
}

/// Binds a listener as `options` say; with the file that is to be removed behind it.
///
/// # Errors
/// As the system gives them: `AddrInUse`, `ENAMETOOLONG`, and those of chmod(2) and chown(2).
pub(super) fn bind(
    fd: OwnedFd,
    name: &UnixName,
    options: &ListenOptions,
) -> io::Result<(Option<File>, OwnedFd)> {
    let path = name.path();
    let bind = || socket::bind(fd.as_raw_fd(), &to_nix(name)?);
    match bind() {
        Err(Errno::EADDRINUSE) if options.unlink && path.is_some_and(remove_stale) => bind()?,
        result => result?,
    }
    let Some(path) = path else {
        return Ok((None, fd));
    };
    // The process may change its directory.
    let file = File(std::path::absolute(path)?);
    // Nobody can connect before it listens.
    let mode = options.mode.map(Permissions::from_mode);
    let set = mode.map_or(Ok(()), |mode| fs::set_permissions(path, mode));
    if let Err(error) = set.and_then(|()| lchown(path, options.uid, options.gid)) {
        // Now no socket is bound to the file, and it goes.
        drop(fd);
        return Err(error);
    }
    // To drop it while the socket is bound leaves it where it is.
    Ok((options.unlink.then_some(file), fd))
}

/// The file of a listener that was bound elsewhere, to be removed behind the last who has it.
pub(super) fn file_of(fd: &impl AsFd, options: &ListenOptions) -> Option<File> {
    let address = local_addr(fd).ok().filter(|_| options.unlink)?;
    let Address::Unix(name) = address else {
        return None;
    };
    let path = name.path().filter(|path| path.is_absolute())?;
    Some(File(path.to_owned()))
}

/// Connects to the socket of this name, at once or not at all: `EAGAIN` where too many wait there.
pub(super) fn connect(fd: &OwnedFd, name: &UnixName) -> nix::Result<()> {
    socket::connect(fd.as_raw_fd(), &to_nix(name)?)
}

/// A name as nix has it.
fn to_nix(name: &UnixName) -> nix::Result<UnixAddr> {
    match name.as_bytes() {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [0, name @ ..] => UnixAddr::new_abstract(name),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [] => Ok(UnixAddr::new_unnamed()),
        path => UnixAddr::new(path),
    }
}

/// The address of the other end of a stream of either family.
///
/// # Errors
/// `NotConnected` when there is none, or no longer.
pub(super) fn peer_addr(fd: &impl AsFd) -> io::Result<Address> {
    from_nix(&socket::getpeername(fd.as_fd().as_raw_fd())?)
}

/// The own address of a socket of either family.
///
/// # Errors
/// As the system gives them; `EAFNOSUPPORT` for any other family.
pub(super) fn local_addr(fd: &impl AsFd) -> io::Result<Address> {
    from_nix(&socket::getsockname(fd.as_fd().as_raw_fd())?)
}

fn from_nix(address: &SockaddrStorage) -> io::Result<Address> {
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()));
    let v6 = || Some(SocketAddr::V6((*address.as_sockaddr_in6()?).into()));
    if let Some(ip) = v4.or_else(v6) {
        return Ok(canonical(ip).into());
    }
    let unix = address.as_unix_addr().ok_or(Errno::EAFNOSUPPORT)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = unix.as_abstract() {
        return Ok(Address::of_bytes(&[b"\0", name].concat()));
    }
    Ok(Address::unix(unix.path().unwrap_or(Path::new(""))))
}

/// Who is at the other end of a Unix socket, as the system tells it: whoever connected, or
/// listened, and not who holds the socket now.
///
/// ```
/// # fn of_root(caller: &oread::Accepted<'_>) -> std::io::Result<bool> {
/// Ok(oread::Credentials::of(caller.fd()?)?.uid == 0)
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process, where the system tells it (Linux and Android) and it can be seen from here. It
    /// may have ended since, and its number may be another's.
    pub pid: Option<u32>,
}

impl Credentials {
    /// Asks the system, by a [`Connection`](crate::Connection) or by
    /// [`Accepted::fd`](crate::Accepted::fd).
    ///
    /// # Errors
    /// `Unsupported` for any other socket, and on systems where nix can't ask.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn of(socket: impl AsFd) -> io::Result<Credentials> {
        let found = socket::getsockopt(&socket, socket::sockopt::PeerCredentials)?;
        let (uid, gid) = (found.uid(), found.gid());
        // 0: of another namespace.
        let pid = u32::try_from(found.pid()).ok().filter(|pid| *pid > 0);
        // What the system says of a socket that keeps no credentials.
        let kept = (uid != u32::MAX).then_some(Credentials { uid, gid, pid });
        kept.ok_or(io::ErrorKind::Unsupported.into())
    }

    /// Asks the system.
    ///
    /// # Errors
    /// As the system gives them, for any other socket.
    #[cfg(any(
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd"
    ))]
    pub fn of(socket: impl AsFd) -> io::Result<Credentials> {
        let (uid, gid) = nix::unistd::getpeereid(socket)?;
        let (uid, gid, pid) = (uid.as_raw(), gid.as_raw(), None);
        Ok(Credentials { uid, gid, pid })
    }

    /// No system that nix can ask.
    ///
    /// # Errors
    /// `Unsupported`.
    #[cfg(not(any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd"
    )))]
    pub fn of(_: impl AsFd) -> io::Result<Credentials> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
