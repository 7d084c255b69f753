//! TCP to every address of a host, both families, the next one started when the last is slow (RFC 8305 in small).

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::net::{TcpStream, lookup_host};

use super::io_error;
use crate::{ErrorKind, ServerUrl, SessionError};

/// RFC 8305, 8: the recommended delay between attempts.
const STAGGER: Duration = Duration::from_millis(250);

pub(super) async fn connect(url: &ServerUrl) -> Result<TcpStream, SessionError> {
    let found = lookup_host((url.host.as_str(), url.port)).await;
    let found = found.map_err(|error| {
        let text = format!(
            "the host name {:?} could not be resolved: {error}",
            url.host
        );
        SessionError::new(ErrorKind::Dns, text)
    })?;
    let mut waiting = interleave(found.collect());
    let mut running = FuturesUnordered::new();
    let mut last = SessionError::new(
        ErrorKind::Dns,
        format!("the host name {:?} has no address", url.host),
    );
    loop {
        if let Some(address) = waiting.pop_front() {
            running.push(TcpStream::connect(address));
        } else if running.is_empty() {
            return Err(last);
        }
        let next = async {
            if waiting.is_empty() {
                std::future::pending().await
            } else {
                tokio::time::sleep(STAGGER).await
            }
        };
        tokio::select! {
            result = running.next() => match result {
                Some(Ok(stream)) => {
                    // Small acknowledgements must not wait for Nagle; without it the connection works as well.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Err(error)) => last = io_error(url, &error),
                None => {}
            },
            () = next => {}
        }
    }
}

/// The resolver's order, families alternating.
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|a| a.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut order = VecDeque::new();
    for address in first {
        order.push_back(address);
        order.extend(second.next());
    }
    order.extend(second);
    order
}
