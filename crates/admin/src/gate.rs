//! The one way in: every call passes here before its route is looked up.

use edgeward_wire::TraceId;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::actor::{Actor, ActorKind, Role};
use crate::refusal::Refusal;
use crate::token::TokenHash;

/// The names under which a loopback listener is called. Any other was made to resolve here: a web
/// page's, by DNS rebinding.
const OUR_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The largest body of a call, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// How a connection came.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Via {
    /// Over the Unix socket, from this user.
    Socket { uid: u32 },
    /// Over TCP, to this port of ours.
    Tcp { port: u16 },
}

/// A call's names for logs and answers, kept beside it in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace(pub(crate) TraceId);

/// What callers are judged by.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) token: TokenHash,
    pub(crate) own_uid: u32,
}

impl Gate {
    /// Who calls, if they may call at all. Cookies are never looked at.
    pub(crate) fn admit(&self, via: Via, head: &Parts) -> Result<Actor, Refusal> {
        check_host(via, head)?;
        check_origin(head)?;
        let actor = match via {
            Via::Socket { uid } => self.peer(uid)?,
            Via::Tcp { .. } => self.bearer(&head.headers)?,
        };
        check_length(&head.headers)?;
        Ok(actor)
    }

    fn peer(&self, uid: u32) -> Result<Actor, Refusal> {
        if uid != 0 && uid != self.own_uid {
            return Err(Refusal::PeerNotAllowed);
        }
        Ok(Actor { kind: ActorKind::Peer { uid }, role: Role::Admin })
    }

    /// RFC 6750, section 2.1.
    fn bearer(&self, headers: &HeaderMap) -> Result<Actor, Refusal> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(Refusal::CredentialsMissing)?;
        if values.next().is_some() {
            return Err(Refusal::TokenInvalid);
        }
        let value = value.to_str().map_err(|_| Refusal::TokenInvalid)?;
        let (scheme, presented) = value.split_once(' ').ok_or(Refusal::TokenInvalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") || !self.token.recognises(presented) {
            return Err(Refusal::TokenInvalid);
        }
        let kind = ActorKind::Token { fingerprint: self.token.fingerprint() };
        Ok(Actor { kind, role: Role::Admin })
    }
}

/// The host by which the caller called: one, and ours. An absolute target names one too.
fn check_host(via: Via, head: &Parts) -> Result<(), Refusal> {
    let mut values = head.headers.get_all(HOST).iter();
    let (Some(host), None) = (values.next(), values.next()) else {
        return Err(Refusal::HostMalformed);
    };
    let host = host.to_str().map_err(|_| Refusal::HostMalformed)?;
    let target = head.uri.authority().map(|authority| authority.as_str());
    if [Some(host), target].into_iter().flatten().all(|name| is_ours(via, name)) {
        Ok(())
    } else {
        Err(Refusal::HostNotOurs)
    }
}

fn is_ours(via: Via, authority: &str) -> bool {
    let port = OUR_NAMES.iter().find_map(|name| {
        let (front, port) = authority.split_at_checked(name.len())?;
        front.eq_ignore_ascii_case(name).then_some(port)
    });
    match (via, port) {
        (Via::Tcp { port: ours }, Some("")) => ours == 80,
        (Via::Tcp { port: ours }, Some(port)) => port == format!(":{ours}"),
        // The socket has no port, and callers put there what they like.
        (Via::Socket { .. }, Some(port)) => {
            port.strip_prefix(':').map_or(port.is_empty(), |port| port.parse::<u16>().is_ok())
        }
        (Via::Tcp { .. } | Via::Socket { .. }, None) => false,
    }
}

/// Only browsers send `Origin`, and no page of any site changes something here.
fn check_origin(head: &Parts) -> Result<(), Refusal> {
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    if !reads && head.headers.contains_key(ORIGIN) {
        return Err(Refusal::OriginRefused);
    }
    Ok(())
}

/// Early and politely; a body that does not say how long it is is cut at the same length.
fn check_length(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(()) };
    let length = length.to_str().ok().and_then(|length| length.parse::<usize>().ok());
    if length.is_none_or(|length| length > MAX_BODY) {
        return Err(Refusal::BodyTooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
