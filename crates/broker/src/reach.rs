//! Whether the address that others are told to connect to can be right.
//!
//! Refused: a name that can't be resolved, and an address of this machine where nobody listens. What this machine can't know (it may be
//! translated on the way) is told in the log and believed.
//!
//! Not here: what is advertised if nothing is said ([`crate::membership`]).

use core::{net::SocketAddr, time::Duration};
use std::io;

use quipu_env::{ConnectError, Env, Net};

use crate::{config::HostPort, start::StartError};

/// Longest that an answer is waited for.
const CONNECT_TIME: Duration = Duration::from_secs(1);

/// Checks what the setting of that name says, once this node listens at `bound`.
///
/// Errors: nobody can connect to it.
pub(crate) async fn check_advertised<E: Env>(
    env: &E,
    setting: &'static str,
    advertised: Option<&HostPort>,
    bound: SocketAddr,
) -> Result<(), StartError> {
    let Some(advertised) = advertised else { return Ok(()) };
    let port = if advertised.port == 0 { bound.port() } else { advertised.port };
    let unreachable = |error: io::Error| StartError::Unreachable { setting, advertised: advertised.clone(), error };
    let addresses = env.net().resolve(&advertised.host, port).await.map_err(unreachable)?;
    let address = *addresses.first().ok_or_else(|| unreachable(io::ErrorKind::NotFound.into()))?;
    let is_bound = |ip| ip == bound.ip() || bound.ip().is_unspecified();
    if port == bound.port() && is_bound(address.ip()) {
        return Ok(());
    }
    match env.net().connect(address, CONNECT_TIME).await {
        Ok(_) => Ok(()),
        Err(ConnectError::Refused) if address.ip() == bound.ip() => {
            Err(unreachable(io::ErrorKind::ConnectionRefused.into()))
        }
        Err(error) => {
            tracing::warn!(
                setting, %advertised, %error,
                "others are told to connect to an address where this node can't reach itself: make sure that they can"
            );
            Ok(())
        }
    }
}
