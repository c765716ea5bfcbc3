//! The few encodings that keys and their names have.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// base64url without padding (RFC 4648, section 5).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The first 16 hex digits of the SHA-256 of a labelled value: names a key and opens nothing.
pub(crate) fn fingerprint(label: &[u8], value: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(label);
    context.update(&[0]);
    context.update(value);
    let mut text = hex(context.finish().as_ref());
    text.truncate(16);
    text
}
