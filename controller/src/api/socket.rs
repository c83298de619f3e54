//! The file of a unix socket. Its path is configured, and may be wrong. So only a socket that nobody answers on is ever
//! removed. If something can be changed by descriptor, it is not changed by path.

use std::fs::{self, FileType};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why the local API cannot use a path.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another program answers there, or would answer.
    #[error("{0}: another program answers on this socket (another tandem?), so it stays; --socket names another path")]
    Taken(PathBuf),
    /// The file there is not a socket.
    #[error("{path}: {what} is there, not a socket, so it stays; --socket names another path")]
    Other {
        /// The path.
        path: PathBuf,
        /// What kind of file it is.
        what: &'static str,
    },
    /// The system refuses a step.
    #[error("{path}: {doing}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The step.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// The file of a socket that this process made. When dropped, the file is removed, if it is still the same.
pub(super) struct Own {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for Own {
    fn drop(&mut self) {
        // If another socket has replaced it, that one belongs to somebody else. If ours stays, nothing is lost: the
        // next agent replaces a socket that nobody answers on.
        if socket_at(&self.path).is_ok_and(|identity| identity == Some(self.identity)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, for root alone (mode 0600). A socket that nobody answers on is replaced. If the folder does not
/// exist, it is made, for root alone.
pub(super) fn listen(path: &Path) -> Result<(UnixListener, Own), SocketError> {
    let io = |doing| {
        move |source| SocketError::Io {
            path: path.to_owned(),
            doing,
            source,
        }
    };
    remove_dead(path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(io("cannot make its folder"))?;
    }
    let bound = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // This is done before the socket has a path. So the socket is never open to others, and no path can lead to
        // somebody else's file.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        UnixListener::from_std(OwnedFd::from(socket).into())
    };
    let listener = bound().map_err(io("cannot listen"))?;
    let identity = socket_at(path)?.ok_or_else(|| io("cannot listen")(io::ErrorKind::NotFound.into()))?;
    let path = path.to_owned();
    Ok((listener, Own { path, identity }))
}

/// Removes a socket that nobody answers on. Returns false if there is nothing. Anything else stays, and is an error.
pub fn remove_dead(path: &Path) -> Result<bool, SocketError> {
    let io = |doing, source| SocketError::Io {
        path: path.to_owned(),
        doing,
        source,
    };
    if socket_at(path)?.is_none() {
        return Ok(false);
    }
    if is_answered(path).map_err(|source| io("cannot see whether somebody answers there", source))? {
        return Err(SocketError::Taken(path.to_owned()));
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(io("cannot be removed", source)),
    }
}

/// Which file the socket at this path is, by device and number. None if there is nothing. Anything else is an error.
fn socket_at(path: &Path) -> Result<Option<(u64, u64)>, SocketError> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => Ok(Some((there.dev(), there.ino()))),
        Ok(there) => Err(SocketError::Other {
            path: path.to_owned(),
            what: what(there.file_type()),
        }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SocketError::Io {
            path: path.to_owned(),
            doing: "cannot see what is there",
            source,
        }),
    }
}

fn what(kind: FileType) -> &'static str {
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_file() {
        "a file"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a device"
    }
}

/// Whether a program has this socket. The program need not accept: its queue may be full, or the socket may be one for
/// datagrams.
fn is_answered(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // If the queue is full, a blocking connect would wait.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ENOENT) => Ok(false),
            Some(libc::EAGAIN | libc::EPROTOTYPE) => Ok(true),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener as StdListener};

    use super::*;

    /// A folder for one test. It is removed when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tandem-socket-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        /// Everything in the folder, without following links. A file comes with its content.
        fn contents(&self) -> Vec<(String, String)> {
            let mut all = Vec::new();
            for entry in fs::read_dir(&self.0).unwrap() {
                let (entry, name) = entry
                    .map(|entry| (entry.path(), entry.file_name().into_string().unwrap()))
                    .unwrap();
                let there = fs::symlink_metadata(&entry).unwrap();
                let held = if there.is_file() {
                    fs::read_to_string(&entry).unwrap()
                } else {
                    format!("{:o} {}", there.mode(), there.ino())
                };
                all.push((name, held));
            }
            all.sort();
            all
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn whatever_is_there_and_is_no_dead_socket_stays_and_is_named() {
        let folder = Folder::new("stays");
        fs::write(folder.path("file"), "precious").unwrap();
        fs::create_dir(folder.path("folder")).unwrap();
        symlink(folder.path("file"), folder.path("link")).unwrap();
        symlink(folder.path("nowhere"), folder.path("dangling")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.path("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        drop(StdListener::bind(folder.path("dead")).unwrap());
        symlink(folder.path("dead"), folder.path("link-to-a-dead-socket")).unwrap();
        let _datagrams = UnixDatagram::bind(folder.path("datagrams")).unwrap();
        let _living = StdListener::bind(folder.path("living")).unwrap();
        let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        full.bind(&SockAddr::unix(folder.path("full")).unwrap()).unwrap();
        full.listen(0).unwrap();
        let waiting: Vec<Socket> = (0..3)
            .map(|_| {
                let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
                client.set_nonblocking(true).unwrap();
                let _ = client.connect(&SockAddr::unix(folder.path("full")).unwrap());
                client
            })
            .collect();

        let before = folder.contents();
        for (name, problem) in [
            ("file", "a file is there, not a socket, so it stays"),
            ("folder", "a folder is there, not a socket, so it stays"),
            ("link", "a symbolic link is there, not a socket, so it stays"),
            ("dangling", "a symbolic link is there, not a socket, so it stays"),
            ("pipe", "a pipe is there, not a socket, so it stays"),
            (
                "link-to-a-dead-socket",
                "a symbolic link is there, not a socket, so it stays",
            ),
            ("datagrams", "another program answers on this socket"),
            ("living", "another program answers on this socket"),
            ("full", "another program answers on this socket"),
            ("file/below", "Not a directory"),
        ] {
            let path = folder.path(name);
            for error in [remove_dead(&path).unwrap_err(), listen(&path).map(|_| ()).unwrap_err()] {
                let line = error.to_string();
                assert!(
                    line.starts_with(&format!("{}: ", path.display())) && line.contains(problem),
                    "{line}"
                );
            }
        }
        assert_eq!(folder.contents(), before);
        drop(waiting);

        assert!(remove_dead(&folder.path("dead")).unwrap());
        assert!(!remove_dead(&folder.path("dead")).unwrap());
    }

    #[tokio::test]
    async fn a_socket_is_for_its_owner_alone_from_the_start_and_is_gone_with_its_listener() {
        let folder = Folder::new("own");
        let path = folder.path("made/below/socket");
        let (listener, own) = listen(&path).unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert!(is_answered(&path).unwrap());
        drop(listener);
        // This is the state after a crash: nobody answers, and the next server replaces the socket.
        std::mem::forget(own);
        assert!(!is_answered(&path).unwrap());
        let (_listener, own) = listen(&path).unwrap();
        drop(own);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_has_taken_the_sockets_place_stays_at_the_end() {
        let folder = Folder::new("place");
        let path = folder.path("socket");
        let (_first, own) = listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = StdListener::bind(&path).unwrap();
        drop(own);
        assert!(is_answered(&path).unwrap(), "another's socket");

        fs::remove_file(&path).unwrap();
        let (_third, own) = listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(own);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
