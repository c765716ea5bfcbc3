//! Routes: which prefix of the path goes where, and what it asks for. Matching is on raw bytes.

use std::collections::HashMap;
use std::sync::Arc;

use edgeward_wire::Scope;

use crate::address::AddressList;
use crate::limit::gcra::Rate;

/// What one route asks for.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its place in the table, which finds its upstreams.
    pub index: u32,
    /// The path that it covers at a segment boundary, base path included.
    pub prefix: String,
    /// A nonce, whatever the deployment says.
    pub require_nonce: bool,
    /// A session, whatever the deployment says.
    pub require_session: bool,
    /// Both of these.
    pub sensitive: bool,
    /// All of these scopes.
    pub scopes: Vec<Scope>,
    /// Where callers may come from.
    pub allowed: AddressList,
    /// A rate of this route, for each agent.
    pub rate: Option<Rate>,
    /// Bytes of body.
    pub max_body: u64,
}

/// All routes; the longest prefix wins. Finding one costs a look for each segment of the path,
/// however many routes there are.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    by_prefix: HashMap<String, Arc<Route>>,
}

impl RouteTable {
    /// From routes of distinct prefixes; of two alike the later one stands.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let by_prefix = routes
            .into_iter()
            .map(|route| (route.prefix.trim_end_matches('/').to_owned(), Arc::new(route)))
            .collect();
        Self { by_prefix }
    }

    /// The route that covers `path`.
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let mut prefix = path.trim_end_matches('/');
        loop {
            if let Some(route) = self.by_prefix.get(prefix) {
                return Some(route);
            }
            prefix = prefix.rsplit_once('/')?.0;
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_prefix.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(prefixes: &[&str]) -> RouteTable {
        RouteTable::new(prefixes.iter().zip(0..).map(|(prefix, index)| Route {
            index,
            prefix: (*prefix).to_owned(),
            require_nonce: false,
            require_session: false,
            sensitive: false,
            scopes: Vec::new(),
            allowed: AddressList::default(),
            rate: None,
            max_body: 1,
        }))
    }

    #[test]
    fn the_longest_prefix_wins_at_a_segment_boundary() {
        let table = table(&["/v1/", "/v1/chat", "/other/"]);
        let find = |path: &str| table.find(path).map(|route| route.prefix.as_str());
        assert_eq!(find("/v1/x"), Some("/v1/"));
        assert_eq!(find("/v1"), Some("/v1/"));
        assert_eq!(find("/v1/"), Some("/v1/"));
        assert_eq!(find("/v1/chat"), Some("/v1/chat"));
        assert_eq!(find("/v1/chat/a/b"), Some("/v1/chat"));
        assert_eq!(find("/v1/chatter"), Some("/v1/"));
        assert_eq!(find("/v12"), None);
        assert_eq!(find("/"), None);
        assert_eq!(find("/V1/x"), None);
    }

    #[test]
    fn the_root_covers_all() {
        let table = table(&["/"]);
        assert!(table.find("/").is_some());
        assert!(table.find("/any/thing").is_some());
    }
}
