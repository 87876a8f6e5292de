//! How sockets are to be opened.

use std::net::SocketAddr;
use std::time::Duration;

/// TCP keepalive: probes on an idle connection, by which the system finds out that a peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long a connection is idle before the first probe; whole seconds, at least 1.
    pub idle: Duration,
    /// How long between probes; whole seconds, at least 1.
    pub interval: Duration,
    /// Probes without an answer after which the connection is broken.
    pub count: u32,
}

/// How to listen for connections.
///
/// ```
/// use oread::ListenOptions;
///
/// let options = ListenOptions { backlog: 128, ..ListenOptions::new(([127, 0, 0, 1], 0).into()) };
/// assert!(options.nodelay);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Where to listen; port 0: any free one.
    pub address: SocketAddr,
    /// How many callers may wait to be accepted; the system caps it (Linux: `net.core.somaxconn`, 4,096 by
    /// default since 5.4). Default: 4,096.
    pub backlog: u32,
    /// Lets other sockets listen on the same port (`SO_REUSEPORT`); the system shares callers out among them. Default: no.
    pub reuse_port: bool,
    /// On an IPv6 address: whether IPv4 callers stay out (`IPV6_V6ONLY`). It's always set, on or off, because
    /// the system's default is an administrator's choice. Default: yes, so that `[::]:p` and `0.0.0.0:p` can be had
    /// side by side.
    pub only_v6: bool,
    /// Sends small writes at once (`TCP_NODELAY`) on each accepted connection. Default: yes.
    pub nodelay: bool,
    /// Keepalive on each accepted connection. Default: none.
    pub keepalive: Option<Keepalive>,
    /// The system's receive buffer of each accepted connection, in bytes. Default: the system's own choice.
    pub recv_buffer: Option<usize>,
    /// The system's send buffer of each accepted connection, in bytes. Default: the system's own choice.
    pub send_buffer: Option<usize>,
}

impl ListenOptions {
    /// Listening on `address`, all else by default.
    #[must_use]
    pub fn new(address: SocketAddr) -> ListenOptions {
        ListenOptions {
            address,
            backlog: 4096,
            reuse_port: false,
            only_v6: true,
            nodelay: true,
            keepalive: None,
            recv_buffer: None,
            send_buffer: None,
        }
    }
}

/// How to open a UDP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// Where to receive; port 0: any free one.
    pub address: SocketAddr,
    /// The only peer to talk to: what others send is not seen, and refusals are told. Default: none.
    pub connect_to: Option<SocketAddr>,
    /// Lets other sockets receive on the same port (`SO_REUSEPORT`). Default: no.
    pub reuse_port: bool,
    /// As [`ListenOptions::only_v6`]. Default: yes.
    pub only_v6: bool,
    /// The system's receive buffer, in bytes. Default: the system's own choice.
    pub recv_buffer: Option<usize>,
    /// The system's send buffer, in bytes. Default: the system's own choice.
    pub send_buffer: Option<usize>,
}

impl UdpOptions {
    /// Receiving on `address`, all else by default.
    #[must_use]
    pub fn new(address: SocketAddr) -> UdpOptions {
        UdpOptions {
            address,
            connect_to: None,
            reuse_port: false,
            only_v6: true,
            recv_buffer: None,
            send_buffer: None,
        }
    }
}

/// How to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Where to.
    pub address: SocketAddr,
    /// Which address of ours to use; with port 0 the system chooses the port when it connects, so that one source address
    /// can use the same port towards many destinations (`IP_BIND_ADDRESS_NO_PORT`, Linux). Default: the system's choice.
    pub source: Option<SocketAddr>,
    /// How long the handshake may take; `None`: as long as the system tries, about two minutes. Default: 10 s.
    pub timeout: Option<Duration>,
    /// Sends small writes at once (`TCP_NODELAY`). Default: yes.
    pub nodelay: bool,
    /// Keepalive. Default: none.
    pub keepalive: Option<Keepalive>,
    /// The system's receive buffer, in bytes. Default: the system's own choice.
    pub recv_buffer: Option<usize>,
    /// The system's send buffer, in bytes. Default: the system's own choice.
    pub send_buffer: Option<usize>,
}

impl ConnectOptions {
    /// Connecting to `address`, all else by default.
    #[must_use]
    pub fn new(address: SocketAddr) -> ConnectOptions {
        ConnectOptions {
            address,
            source: None,
            timeout: Some(Duration::from_secs(10)),
            nodelay: true,
            keepalive: None,
            recv_buffer: None,
            send_buffer: None,
        }
    }
}
