//! What a server says unasked.

use std::sync::{Arc, Weak};

use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use crate::health::Health;
use crate::line::OnPush;
use crate::shared::Shared;

/// Who takes what one server says unasked.
pub(crate) struct Inbox {
    pub(crate) shared: Weak<Shared>,
    pub(crate) health: Arc<Health>,
    /// The link that it comes over.
    pub(crate) serial: u64,
    /// The name of this node's canary there, in either mode.
    pub(crate) canary: Vec<u8>,
    /// Told when everything there has been deleted.
    pub(crate) flushed: Arc<Notify>,
}

impl Inbox {
    pub(crate) fn into_handler(self) -> OnPush {
        Box::new(move |push| self.take(push))
    }

    fn take(&self, push: PushInfo) {
        let Some(shared) = self.shared.upgrade() else { return };
        if push.kind == PushKind::Invalidate {
            self.invalidated(&shared, push.data.first());
        } else if push.kind == PushKind::Message
            && let [_, Value::BulkString(payload)] = push.data.as_slice()
        {
            if *payload == self.canary {
                self.health.canary_returned();
            } else if !is_canary(&shared, payload) {
                shared.listener.published(payload);
            }
        }
    }

    /// A list of keys, or nothing when there is none left.
    fn invalidated(&self, shared: &Shared, keys: Option<&Value>) {
        let Some(Value::Array(keys)) = keys else {
            shared.void(self.serial);
            self.flushed.notify_one();
            return;
        };
        for key in keys {
            let Value::BulkString(key) = key else { continue };
            if *key == self.canary {
                self.health.canary_returned();
            } else {
                shared.listener.invalidated(key);
            }
        }
    }
}

/// Whether it is a canary, of whatever node.
fn is_canary(shared: &Shared, payload: &[u8]) -> bool {
    payload.starts_with(shared.keys.canaries().as_bytes())
}
