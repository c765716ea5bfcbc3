//! A request as it is given on the command line.

use std::io::Read as _;
use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::outcome::{Failure, read_file};

/// `-d`: where a body comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    Inline(String),
    File(PathBuf),
    Stdin,
}

impl FromStr for Data {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "-" | "@-" => Self::Stdin,
            _ => match text.strip_prefix('@') {
                Some(path) => Self::File(path.into()),
                None => Self::Inline(text.to_owned()),
            },
        })
    }
}

impl Data {
    /// Reads the body; none is empty.
    pub(super) fn read(data: Option<&Self>) -> Result<Bytes, Failure> {
        match data {
            None => Ok(Bytes::new()),
            Some(Self::Inline(text)) => Ok(text.clone().into()),
            Some(Self::File(path)) => read_file(path).map(Bytes::from),
            Some(Self::Stdin) => {
                let mut body = Vec::new();
                std::io::stdin()
                    .lock()
                    .read_to_end(&mut body)
                    .map_err(|error| Failure::File(format!("stdin: {error}")))?;
                Ok(body.into())
            }
        }
    }
}

/// `-H 'name: value'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header(HeaderName, HeaderValue);

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').ok_or("a header is `name: value`")?;
        let name = name.trim().parse().map_err(|_| "not the name of a header".to_owned())?;
        let value = value.trim().parse().map_err(|_| "not the value of a header".to_owned())?;
        Ok(Self(name, value))
    }
}

/// All of them, in the order given.
pub(super) fn headers(given: &[Header]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for Header(name, value) in given {
        headers.append(name.clone(), value.clone());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_inline_a_file_or_stdin() {
        let read = |text: &str| text.parse::<Data>().unwrap();
        assert_eq!(read("{}"), Data::Inline("{}".to_owned()));
        assert_eq!(read("@body.json"), Data::File("body.json".into()));
        assert_eq!((read("-"), read("@-")), (Data::Stdin, Data::Stdin));
        assert_eq!(read(""), Data::Inline(String::new()));
    }

    #[test]
    fn headers_are_split_at_the_first_colon_and_trimmed() {
        let header: Header = "Accept:  a:b ".parse().unwrap();
        let headers = headers(&[header]);
        assert_eq!(headers.get("accept").unwrap(), "a:b");
        assert!("no colon".parse::<Header>().is_err());
        assert!("bad name: x".parse::<Header>().is_err());
    }
}
