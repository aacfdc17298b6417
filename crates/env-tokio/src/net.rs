//! Kernel TCP sockets under tokio's reactors.
//!
//! Invariants
//! - Every connection has `TCP_NODELAY`: who writes decides what goes together.
//! - A socket is registered with the reactor of the shard that first uses it (see [`socket::Socket`]).
//!
//! Not here: reading and writing (`net::connection`), TLS, framing, any limit on connections.

mod connection;
mod socket;

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    task::{Poll, ready},
    time::Duration,
};

use quipu_base::limits::LISTEN_BACKLOG;
use quipu_env::{ConnectError, Listener, Net};
use rustix::{
    io::{Errno, retry_on_intr},
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
};

pub use connection::{TokioReader, TokioWriter};
use socket::Socket;

use crate::disk::TokioFile;

/// Kernel TCP.
#[derive(Clone, Copy, Debug)]
pub struct TokioNet(());

impl TokioNet {
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

impl Net for TokioNet {
    type File = TokioFile;
    type Listener = TokioListener;
    type Reader = TokioReader;
    type Writer = TokioWriter;

    async fn bind(&self, address: SocketAddr) -> io::Result<TokioListener> {
        let socket = new_socket(address)?;
        // So that a restart need not wait for connections of the last run to be forgotten.
        sockopt::set_socket_reuseaddr(socket.fd(), true)?;
        rustix::net::bind(socket.fd(), &address)?;
        rustix::net::listen(socket.fd(), LISTEN_BACKLOG)?;
        let address = SocketAddr::try_from(rustix::net::getsockname(socket.fd())?)?;
        Ok(TokioListener { socket, address })
    }

    async fn connect(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<(TokioReader, TokioWriter), ConnectError> {
        let socket = new_socket(address).map_err(connect_error)?;
        match tokio::time::timeout(timeout, connect(&socket, address)).await {
            Ok(Ok(())) => Ok(connection::split(socket)),
            Ok(Err(error)) => Err(connect_error(error)),
            Err(_elapsed) => Err(ConnectError::TimedOut),
        }
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// An unconnected TCP socket of the address's family.
fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(Socket::new(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?))
}

async fn connect(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket.fd(), true)?;
    // An interrupted connect goes on in the background, like one that was begun.
    match rustix::net::connect(socket.fd(), &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let registered = socket.registered()?;
    loop {
        let mut guard = registered.writable().await?;
        sockopt::socket_error(socket.fd())??;
        match rustix::net::getpeername(socket.fd()) {
            Ok(Some(peer)) => return check_other_end(socket, SocketAddr::try_from(peer)?),
            Ok(None) | Err(Errno::NOTCONN) => guard.clear_ready(),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Linux connects a socket with itself when the port that it picks for it happens to be the one asked for. Nobody listens
/// there then.
fn check_other_end(socket: &Socket, peer: SocketAddr) -> io::Result<()> {
    let own = SocketAddr::try_from(rustix::net::getsockname(socket.fd())?)?;
    if own == peer { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
}

fn connect_error(error: io::Error) -> ConnectError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused,
        io::ErrorKind::TimedOut => ConnectError::TimedOut,
        _ => ConnectError::Io(error),
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct TokioListener {
    socket: Socket,
    address: SocketAddr,
}

impl Listener for TokioListener {
    type Reader = TokioReader;
    type Writer = TokioWriter;

    async fn accept(&mut self) -> io::Result<(TokioReader, TokioWriter, SocketAddr)> {
        let (fd, peer) = poll_fn(|context| {
            let registered = self.socket.registered()?;
            loop {
                let mut guard = ready!(registered.poll_read_ready(context))?;
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                match retry_on_intr(|| rustix::net::acceptfrom_with(self.socket.fd(), flags)) {
                    Err(Errno::WOULDBLOCK) => guard.clear_ready(),
                    other => return Poll::Ready(other.map_err(io::Error::from)),
                }
            }
        })
        .await?;
        let peer = peer.ok_or_else(|| io::Error::other("the kernel gave no address of the peer"))?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        let (reader, writer) = connection::split(Socket::new(fd));
        Ok((reader, writer, SocketAddr::try_from(peer)?))
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn resolve(host: &str) -> io::Result<Vec<SocketAddr>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(TokioNet::new().resolve(host, 9092))
    }

    #[test]
    fn literals_and_names_resolve() {
        let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
        assert_eq!(resolve("127.0.0.1").expect("a literal"), [SocketAddr::new(v4, 9092)]);
        assert_eq!(resolve("::1").expect("a literal"), [SocketAddr::new(v6, 9092)]);
        assert_eq!(resolve("[::1]").expect("a literal as in a URL"), [SocketAddr::new(v6, 9092)]);
        let addresses = resolve("localhost").expect("every system knows this name");
        assert!(!addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
        assert!(resolve("").is_err(), "the empty name has an address");
    }
}
