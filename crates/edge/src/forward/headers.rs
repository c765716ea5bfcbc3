//! Which headers cross the edge, in both directions.

use std::net::IpAddr;

use edgeward_core::flow::Caller;
use edgeward_wire::{header, hop};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};

use super::RouteTarget;
use crate::value::value;

/// How the agent reached the edge, as a trusted proxy or the socket tells.
#[derive(Debug, Clone, Copy)]
pub struct Hop {
    /// `https` rather than `http`.
    pub secure: bool,
}

/// Names that `Connection` lists: they are hop-by-hop for this message.
fn connection_names(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

/// Whether a header of the request goes on to the upstream. A route lets cookies pass by naming them.
fn crosses(name: &HeaderName, listed: &[HeaderName], passed: Option<&[HeaderName]>) -> bool {
    let named = passed.is_some_and(|passed| passed.contains(name));
    // What is signed arrives: `Connection` is not, and anybody on the way could have written it.
    let dropped = listed.contains(name) && name != CONTENT_TYPE;
    (named || passed.is_none()) && hop::may_pass(name.as_str(), named) && !dropped
}

/// What the upstream gets. The edge's own headers are written last, so that nothing the caller says
/// can remove or replace them.
pub(crate) fn for_upstream(
    from: HeaderMap,
    target: &RouteTarget,
    caller: &Caller,
    client: IpAddr,
    hop: &Hop,
) -> HeaderMap {
    let listed = connection_names(&from);
    let mut out = HeaderMap::with_capacity(from.len() + 8);
    // Of several lines of one name only the first brings the name along.
    let mut current = None;
    for (name, value) in from {
        if let Some(name) = name {
            current = crosses(&name, &listed, target.passed.as_deref()).then_some(name);
        }
        if let Some(name) = &current {
            out.append(name, value);
        }
    }
    for (name, value) in &target.set {
        out.insert(name, value.clone());
    }
    out.insert(header::X_EDGEWARD_AGENT_ID, value(caller.agent.id.to_string()));
    out.insert(header::X_EDGEWARD_OWNER_USER_ID, value(caller.agent.owner.to_string()));
    out.insert(header::X_EDGEWARD_SCOPES, value(scopes(caller)));
    forwarded(&mut out, client, hop);
    out
}

fn scopes(caller: &Caller) -> String {
    let mut out = String::new();
    for scope in caller.agent.scopes.iter() {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(scope.as_str());
    }
    out
}

/// `X-Forwarded-For`, `-Proto` and `Forwarded` (RFC 7239), written anew.
fn forwarded(out: &mut HeaderMap, client: IpAddr, hop: &Hop) {
    let proto = if hop.secure { "https" } else { "http" };
    let node = match client {
        IpAddr::V4(address) => format!("for={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    };
    out.insert("x-forwarded-for", value(client.to_string()));
    out.insert("x-forwarded-proto", HeaderValue::from_static(proto));
    out.insert("forwarded", value(format!("{node};proto={proto}")));
}

/// Removes from an upstream's answer what is the edge's own to say, and what ends at this hop.
/// The length stays: it is the body's.
pub(crate) fn clean_answer(headers: &mut HeaderMap) {
    // Chunks say where the body ends, whatever a length beside them says (RFC 9112, section 6.3).
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let listed = connection_names(headers);
    let own = |name: &HeaderName| {
        let text = name.as_str();
        text.starts_with("x-edgeward-")
            || text.starts_with("ratelimit")
            || *name == header::X_TRACE_ID
            || *name == header::X_SECRET_VERSION
            || *name == header::X_SESSION_EXPIRES_MS
    };
    let removed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            (hop::is_hop_by_hop(name.as_str()) && **name != CONTENT_LENGTH && **name != HOST)
                || own(name)
                || (listed.contains(name) && **name != CONTENT_LENGTH)
        })
        .cloned()
        .collect();
    for name in removed {
        headers.remove(name);
    }
}
