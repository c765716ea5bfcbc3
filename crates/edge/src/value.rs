//! Text as a header's value.

use http::HeaderValue;

/// A value made of text that is known to be a header value; the text is not copied.
pub(crate) fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}
