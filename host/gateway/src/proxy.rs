//! PROXY protocol, version 2: a load balancer tells who the client is before the client's bytes.
//!
//! In: a fresh socket. Out: the client's address. Read is exactly the header, at most 16 + 65,535
//! bytes, in pieces that are not kept; what it says beyond the address (TLVs, of which a checksum
//! is one) is skipped. Whoever reaches such a listener can claim any address: bind it where only
//! the load balancer comes from.
//! Not here: the deadline (`listener`). Version 1, which is text, is refused.
//!
//! Source: "The PROXY protocol", HAProxy, versions 1 & 2, section 2.2.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Two addresses and two ports.
const IPV4_BYTES: usize = 12;
const IPV6_BYTES: usize = 36;

/// Why the header cannot be used; the connection is to be closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The peer is no load balancer, or one that speaks version 1 or nothing.
    #[error("the listener expects PROXY protocol v2 and the peer does not send it")]
    Signature,
    /// Version, command, family or length is none that a TCP connection can have.
    #[error("the PROXY protocol header is not valid: {0}")]
    Header(&'static str),
    /// The socket failed, or ended inside the header.
    #[error("the PROXY protocol header cannot be read")]
    Read(#[from] io::Error),
}

/// Reads the header; `None` when the load balancer speaks for itself (a health check) or does not
/// know its client.
///
/// # Errors
/// See [`ProxyError`].
pub async fn read_header<S>(socket: &mut S) -> Result<Option<SocketAddr>, ProxyError>
where
    S: AsyncRead + Unpin,
{
    let mut signature = [0; SIGNATURE.len()];
    let mut filled = 0;
    while filled < signature.len() {
        filled += match socket.read(&mut signature[filled..]).await? {
            0 => return Err(ProxyError::Read(io::ErrorKind::UnexpectedEof.into())),
            read => read,
        };
        // At once: a peer that waits for us, with fewer bytes, would only run into the deadline.
        if !SIGNATURE.starts_with(&signature[..filled]) {
            return Err(ProxyError::Signature);
        }
    }
    let mut start = [0; 4];
    socket.read_exact(&mut start).await?;
    let [command, family, length @ ..] = start;
    let length = usize::from(u16::from_be_bytes(length));
    let mut addresses = [0; IPV6_BYTES];
    let known = length.min(addresses.len());
    socket.read_exact(&mut addresses[..known]).await?;
    skip(socket, length - known).await?;
    let addresses = &addresses[..known];
    match (command, family) {
        // LOCAL: whatever the rest says is to be ignored.
        (0x20, _) => Ok(None),
        (0x21, 0x00) => Ok(None),
        (0x21, 0x11) => ipv4(addresses).map(Some),
        (0x21, 0x21) => ipv6(addresses).map(Some),
        (0x21, _) => Err(ProxyError::Header("the family is not TCP over IPv4 or IPv6")),
        _ => Err(ProxyError::Header("version or command is unknown")),
    }
}

async fn skip<S: AsyncRead + Unpin>(socket: &mut S, mut length: usize) -> io::Result<()> {
    let mut piece = [0; 512];
    while length > 0 {
        let now = length.min(piece.len());
        length -= socket.read_exact(&mut piece[..now]).await?;
    }
    Ok(())
}

fn ipv4(addresses: &[u8]) -> Result<SocketAddr, ProxyError> {
    let Some((&[a, b, c, d, _, _, _, _, high, low, ..], _)) =
        addresses.split_first_chunk::<IPV4_BYTES>()
    else {
        return Err(ProxyError::Header("it is too short for IPv4"));
    };
    Ok((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
}

fn ipv6(addresses: &[u8]) -> Result<SocketAddr, ProxyError> {
    let (Some(source), Some(&[high, low])) =
        (addresses.first_chunk::<16>(), addresses.get(32..34).and_then(<[u8]>::first_chunk::<2>))
    else {
        return Err(ProxyError::Header("it is too short for IPv6"));
    };
    if addresses.len() < IPV6_BYTES {
        return Err(ProxyError::Header("it is too short for IPv6"));
    }
    Ok((Ipv6Addr::from(*source), u16::from_be_bytes([high, low])).into())
}
