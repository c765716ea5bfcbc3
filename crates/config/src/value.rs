//! From the text of one setting to its value, by the setting's kind.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::form;
use crate::setting::Kind;
use crate::stores::{PostgresUrl, RedisUrl, UrlFault};
use crate::url::HttpUrl;
use crate::{BodySignature, DeviceProof, JwtAlg, LogFormat, Profile, SecretText};

/// A value of its kind.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Profile(Profile),
    Bool(bool),
    BodySignature(BodySignature),
    DeviceProof(DeviceProof),
    JwtAlg(JwtAlg),
    LogFormat(LogFormat),
    Number(u64),
    Text(String),
    Tokens(Vec<String>),
    Secret(SecretText),
    Listen(SocketAddr),
    Path(PathBuf),
    Networks(Vec<IpNet>),
    Kek(KekReference),
    Database(DatabaseUrl),
    Notify(NotifyUrl),
    Redis(RedisUrl),
}

/// Where durable state is said to be.
#[derive(Clone, Debug)]
pub(crate) enum DatabaseUrl {
    Sqlite(PathBuf),
    Postgres(PostgresUrl),
}

/// Where notifications are said to be listened to.
#[derive(Clone, Debug)]
pub(crate) enum NotifyUrl {
    Nowhere,
    At(PostgresUrl),
}

/// Where a key-encryption key is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KekReference {
    File(PathBuf),
    Env(String),
}

/// Why a text is not a value of its kind. Holds nothing of the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub(crate) expected: String,
    pub(crate) what_to_do: Option<String>,
}

impl Unfit {
    fn expected(expected: impl Into<String>) -> Self {
        Self { expected: expected.into(), what_to_do: None }
    }

    /// A URL of the right scheme, with this the matter.
    fn url(kind: Kind, fault: UrlFault) -> Self {
        Self {
            expected: format!("{}; {}", expected(kind), fault.why),
            what_to_do: Some(fault.what_to_do.to_owned()),
        }
    }

    /// A form that is right, of a thing that this build does not have.
    pub(crate) fn later(what: &str, instead: &str) -> Self {
        Self {
            expected: format!("nothing: not supported by this build yet: {what}"),
            what_to_do: Some(instead.to_owned()),
        }
    }
}

/// Reads `raw` as a value of `kind`.
pub(crate) fn read(kind: Kind, raw: &str, now_ms: i64) -> Result<Value, Unfit> {
    let value = match kind {
        Kind::Profile => {
            word(raw, &[("development", Profile::Development), ("production", Profile::Production)])
                .map(Value::Profile)
        }
        Kind::Bool => word(raw, &[("true", true), ("false", false)]).map(Value::Bool),
        Kind::BodySignature => return body_signature(raw, now_ms),
        Kind::DeviceProof => {
            word(raw, &[("rotation", DeviceProof::Rotation), ("session", DeviceProof::Session)])
                .map(Value::DeviceProof)
        }
        Kind::JwtAlg => {
            word(raw, &[("EdDSA", JwtAlg::EdDsa), ("ES256", JwtAlg::Es256)]).map(Value::JwtAlg)
        }
        Kind::LogFormat => {
            word(raw, &[("text", LogFormat::Text), ("json", LogFormat::Json)]).map(Value::LogFormat)
        }
        Kind::Millis { min, max } => {
            form::millis(raw).filter(|ms| (min..=max).contains(ms)).map(Value::Number)
        }
        Kind::Count { min, max } => {
            form::whole(raw).filter(|count| (min..=max).contains(count)).map(Value::Number)
        }
        Kind::Text => printable(raw).then(|| Value::Text(raw.to_owned())),
        Kind::Token => form::is_token(raw).then(|| Value::Text(raw.to_owned())),
        Kind::Tokens => tokens(raw).map(Value::Tokens),
        Kind::Secret { min_bytes } => {
            (raw.len() >= min_bytes).then(|| Value::Secret(SecretText::new(raw.to_owned())))
        }
        Kind::PublicUrl => return public_url(raw),
        Kind::BasePath => is_base_path(raw).then(|| Value::Text(raw.to_owned())),
        Kind::Listen => raw.parse().ok().map(Value::Listen),
        Kind::Path => is_path(raw).then(|| Value::Path(PathBuf::from(raw))),
        Kind::Networks => networks(raw).map(Value::Networks),
        Kind::ConfidentialUrl => return confidential_url(raw),
        Kind::HttpUrl => return http_url(raw).map(|_| Value::Text(raw.to_owned())),
        Kind::RedisUrl => return redis_url(raw),
        Kind::DatabaseUrl => return database_url(raw),
        Kind::NotifyUrl => return notify_url(raw),
        Kind::Schema => is_schema(raw).then(|| Value::Text(raw.to_owned())),
        Kind::KeyPrefix => is_key_prefix(raw).then(|| Value::Text(raw.to_owned())),
        Kind::NodeName => {
            (raw.len() <= 64 && form::is_token(raw)).then(|| Value::Text(raw.to_owned()))
        }
        Kind::Kek => return kek(raw),
    };
    value.ok_or_else(|| Unfit::expected(expected(kind)))
}

/// What a value of this kind looks like, for people.
pub(crate) fn expected(kind: Kind) -> String {
    match kind {
        Kind::Profile => "`development` or `production`".into(),
        Kind::Bool => "`true` or `false`".into(),
        Kind::BodySignature => "`false`, `true` or a date `YYYY-MM-DD`".into(),
        Kind::DeviceProof => "`rotation` or `session`".into(),
        Kind::JwtAlg => "`EdDSA` or `ES256`".into(),
        Kind::LogFormat => "`text` or `json`".into(),
        Kind::Millis { min, max } => format!(
            "milliseconds, or a number with ms, s, m, h or d, from {} to {}",
            form::spelled_millis(min),
            form::spelled_millis(max)
        ),
        Kind::Count { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Text => "1 to 256 printable ASCII characters".into(),
        Kind::Token => "1 to 128 printable ASCII characters without blank and comma".into(),
        Kind::Tokens => "names of printable ASCII without blanks, with commas between them, or `none`".into(),
        Kind::Secret { min_bytes } => format!("a secret of at least {min_bytes} bytes"),
        Kind::PublicUrl => "an http or https URL without query, fragment and user".into(),
        Kind::BasePath => {
            "nothing, or a path of letters, digits, `-`, `.`, `_`, `~` that begins with `/` and does not end with one".into()
        }
        Kind::Listen => "an address and a port, such as 127.0.0.1:8600 or [::1]:8600".into(),
        Kind::Path => "a path".into(),
        Kind::Networks => "addresses or CIDRs (without bits beyond the prefix), with commas between them, or `none`".into(),
        Kind::ConfidentialUrl => "an https URL, or http to loopback".into(),
        Kind::HttpUrl => "an http or https URL".into(),
        Kind::RedisUrl => "`redis://[user:password@]host[:port][/db]`, `redis-sentinel://…@h1,h2,h3/master-name[/db]` or `redis-cluster://…@h1,h2,h3`, each with TLS as `rediss…`".into(),
        Kind::DatabaseUrl => format!("`sqlite:PATH` or {POSTGRES_FORM}"),
        Kind::NotifyUrl => format!("{POSTGRES_FORM}, or `none`"),
        Kind::Schema => "a lower-case identifier of at most 63 characters, `[a-z_][a-z0-9_]*`, not `public` and not `pg_…`".into(),
        Kind::KeyPrefix => "1 to 32 of the characters `a-z`, `0-9`, `_` and `-`".into(),
        Kind::NodeName => "1 to 64 printable ASCII characters without blank and comma".into(),
        Kind::Kek => "`file:PATH` or `env:NAME`".into(),
    }
}

const POSTGRES_FORM: &str = "`postgres://user:password@host:port/database[?sslmode=…]`";

fn word<T: Copy>(raw: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| *word == raw).map(|(_, value)| *value)
}

fn printable(raw: &str) -> bool {
    (1..=256).contains(&raw.len())
        && raw.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

fn is_path(raw: &str) -> bool {
    !raw.is_empty() && !raw.chars().any(char::is_control)
}

fn tokens(raw: &str) -> Option<Vec<String>> {
    form::items(raw).into_iter().map(|item| form::is_token(item).then(|| item.to_owned())).collect()
}

fn networks(raw: &str) -> Option<Vec<IpNet>> {
    form::items(raw).into_iter().map(form::network).collect()
}

/// Empty, or `/` and a segment of unreserved characters (RFC 3986, section 2.3), again and again.
fn is_base_path(raw: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let Some(rest) = raw.strip_prefix('/') else {
        return raw.is_empty();
    };
    rest.split('/').all(|segment| {
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(unreserved)
    })
}

fn body_signature(raw: &str, now_ms: i64) -> Result<Value, Unfit> {
    let allowed = match raw {
        "false" => BodySignature::Off,
        "true" => BodySignature::On,
        day => {
            let until =
                form::date(day).ok_or_else(|| Unfit::expected(expected(Kind::BodySignature)))?;
            let latest = form::latest_sunset(now_ms);
            if until > latest {
                return Err(Unfit::expected(format!(
                    "a date at most {} days ahead, {} or before",
                    form::SUNSET_DAYS,
                    form::spelled_date(latest)
                )));
            }
            BodySignature::Until(until)
        }
    };
    Ok(Value::BodySignature(allowed))
}

fn http_url(raw: &str) -> Result<HttpUrl, Unfit> {
    HttpUrl::read(raw).map_err(|why| Unfit::expected(format!("{}; {why}", expected(Kind::HttpUrl))))
}

fn public_url(raw: &str) -> Result<Value, Unfit> {
    let url = http_url(raw)?;
    let trimmed = raw.strip_suffix('/').unwrap_or(raw);
    if url.has_query || !is_base_path(url.path.trim_end_matches('/')) || trimmed.ends_with('/') {
        return Err(Unfit::expected(expected(Kind::PublicUrl)));
    }
    Ok(Value::Text(trimmed.to_owned()))
}

fn confidential_url(raw: &str) -> Result<Value, Unfit> {
    let url = http_url(raw)?;
    if url.tls || url.is_loopback() {
        Ok(Value::Text(raw.to_owned()))
    } else {
        Err(Unfit::expected(expected(Kind::ConfidentialUrl)))
    }
}

fn redis_url(raw: &str) -> Result<Value, Unfit> {
    const KIND: Kind = Kind::RedisUrl;
    if !RedisUrl::is_meant(raw) {
        return Err(Unfit::expected(expected(KIND)));
    }
    RedisUrl::read(raw).map(Value::Redis).map_err(|fault| Unfit::url(KIND, fault))
}

fn notify_url(raw: &str) -> Result<Value, Unfit> {
    const KIND: Kind = Kind::NotifyUrl;
    if raw == "none" {
        return Ok(Value::Notify(NotifyUrl::Nowhere));
    }
    if !PostgresUrl::is_meant(raw) {
        return Err(Unfit::expected(expected(KIND)));
    }
    let url = PostgresUrl::read(raw).map_err(|fault| Unfit::url(KIND, fault))?;
    Ok(Value::Notify(NotifyUrl::At(url)))
}

fn database_url(raw: &str) -> Result<Value, Unfit> {
    const KIND: Kind = Kind::DatabaseUrl;
    if PostgresUrl::is_meant(raw) {
        let url = PostgresUrl::read(raw).map_err(|fault| Unfit::url(KIND, fault))?;
        return Ok(Value::Database(DatabaseUrl::Postgres(url)));
    }
    let path = raw.strip_prefix("sqlite:").unwrap_or_default();
    let path = path.strip_prefix("//").unwrap_or(path);
    if !is_path(path) || path.starts_with(':') || path.contains(['?', '#', '@']) {
        return Err(Unfit::expected(expected(KIND)));
    }
    Ok(Value::Database(DatabaseUrl::Sqlite(PathBuf::from(path))))
}

/// An identifier that PostgreSQL takes without quotes and cuts nowhere, in a schema that is neither everybody's nor its own.
fn is_schema(raw: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=63).contains(&raw.len())
        && raw.bytes().all(legal)
        && !raw.starts_with(|first: char| first.is_ascii_digit())
        && raw != "public"
        && !raw.starts_with("pg_")
}

/// Characters that have no meaning in key patterns and hash tags.
fn is_key_prefix(raw: &str) -> bool {
    let legal = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
    };
    (1..=32).contains(&raw.len()) && raw.bytes().all(legal)
}

fn kek(raw: &str) -> Result<Value, Unfit> {
    let (scheme, rest) = raw.split_once(':').unwrap_or_default();
    let instead = "Use `file:PATH` or `env:NAME`.";
    match scheme {
        "file" if is_path(rest) => Ok(Value::Kek(KekReference::File(PathBuf::from(rest)))),
        "env" if is_variable(rest) => Ok(Value::Kek(KekReference::Env(rest.to_owned()))),
        "awskms" if is_path(rest) => Err(Unfit::later("a key in AWS KMS", instead)),
        "vault" if is_path(rest) => Err(Unfit::later("a key in Vault Transit", instead)),
        _ => Err(Unfit::expected(expected(Kind::Kek))),
    }
}

/// Whether this can be the name of an environment variable.
pub(crate) fn is_variable(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(legal)
}
