//! Says in one sentence why a request to a store failed: the location, the action, the identity and a remedy.

use std::error::Error as _;

use hwacha_model::{Failure, FailureKind};
use object_store::Error;
use object_store::path::Path;

use super::Bucket;
use crate::config::LocationConfig;
use crate::location::Scheme;

/// The request that failed.
pub(super) struct Place<'a> {
    pub bucket: &'a Bucket,
    pub path: &'a Path,
    /// What was done with the location, such as "read".
    pub action: &'static str,
    pub config: &'a LocationConfig,
}

impl Place<'_> {
    /// The same kind of error with a [`Failure`] as its source.
    pub(super) fn explain(&self, error: Error) -> Error {
        if is_explained(&error) {
            return error;
        }
        let url = format!("{}/{}", self.bucket.url, self.path);
        let failure = self.failure(&error, &url, &root_text(&error));
        tracing::debug!(reason = failure.message, "a request to a store has failed");
        let (path, source) = (url, Box::new(failure));
        match error {
            Error::NotFound { .. } => Error::NotFound { path, source },
            Error::Precondition { .. } => Error::Precondition { path, source },
            Error::NotModified { .. } => Error::NotModified { path, source },
            Error::AlreadyExists { .. } => Error::AlreadyExists { path, source },
            Error::PermissionDenied { .. } => Error::PermissionDenied { path, source },
            Error::Unauthenticated { .. } => Error::Unauthenticated { path, source },
            Error::NotSupported { .. } => Error::NotSupported { source },
            _ => Error::Generic { store: "remote", source },
        }
    }

    fn failure(&self, error: &Error, url: &str, text: &str) -> Failure {
        let Self { action, .. } = self;
        let user = |message: String| Failure::new(FailureKind::UserError, message);
        let (code, status, text) = (part(text, "Code").unwrap_or_default(), status(text), &summary(text));
        let (bucket, section) = (&self.bucket.url, &self.bucket.url);
        match (code, error) {
            ("NoSuchBucket" | "ContainerNotFound", _) => user(format!("there is no bucket {bucket}")),
            ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AuthenticationFailed" | "InvalidToken", _) => {
                user(format!(
                    "{url} cannot be {action}: the store does not accept the keys of {}; correct them in [storage.\"{section}\"]",
                    self.identity()
                ))
            }
            ("ExpiredToken" | "TokenRefreshRequired", _) => user(format!(
                "{url} cannot be {action}: the session token of {} has expired; renew it",
                self.identity()
            )),
            ("RequestTimeTooSkewed", _) => user(format!(
                "{url} cannot be {action}: the clock of this machine differs too much from the store's; set it"
            )),
            ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException", _) => {
                user(format!(
                    "{url} cannot be {action}: the bucket is in another region; set region in [storage.\"{section}\"]"
                ))
            }
            (_, Error::NotFound { .. }) if matches!(self.bucket.scheme, Scheme::Http | Scheme::Https) => user(format!(
                "the file {url} does not exist; HTTP servers have no directories and patterns, so name each file"
            )),
            (_, Error::NotFound { .. }) => user(format!("the file {url} does not exist")),
            (_, Error::Precondition { .. }) => {
                user(format!("the file {url} has changed since the query began; run it again"))
            }
            (_, Error::AlreadyExists { .. }) => user(format!("the file {url} exists already")),
            _ if is_refused(error, status) => user(format!(
                "{url} may not be {action} by {}; give that identity access, or set credentials in [storage.\"{section}\"]",
                self.identity()
            )),
            (_, Error::NotSupported { .. } | Error::NotImplemented { .. }) => {
                user(format!("{url} cannot be {action}: {text}"))
            }
            // The request is wrong, and sending it again helps only against too many requests and slow networks.
            _ if status.is_some_and(|status| status / 100 == 4 && ![408, 429].contains(&status)) => {
                user(format!("{url} cannot be {action}: {text}"))
            }
            _ => Failure::new(FailureKind::StoreUnavailable, format!("{url} cannot be {action}: {text}")),
        }
    }

    /// Who sent the request.
    fn identity(&self) -> String {
        let config = self.config;
        if config.anonymous {
            return "anonymous requests".to_owned();
        }
        if let Some(role) = &config.role {
            return format!("the role {role}");
        }
        if let Some(profile) = &config.profile {
            return format!("the profile \"{profile}\"");
        }
        let has_keys = config.access_key_id.is_some()
            || config.account_key.is_some()
            || config.sas_token.is_some()
            || config.client_secret.is_some()
            || config.service_account_key.is_some()
            || config.bearer_token.is_some();
        match (has_keys, self.bucket.scheme) {
            (true, _) => "the configured credentials".to_owned(),
            (false, Scheme::Http | Scheme::Https) => "requests without a token".to_owned(),
            (false, _) => "the credentials of this machine".to_owned(),
        }
    }
}

/// Whether the store refused the request because of who sent it. Errors of listings have no kind of their own.
fn is_refused(error: &Error, status: Option<u16>) -> bool {
    matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) || matches!(status, Some(401 | 403))
}

/// Whether the source of an error is a sentence already.
fn is_explained(error: &Error) -> bool {
    error.source().is_some_and(|source| source.is::<Failure>())
}

/// The text of the innermost error, which has no retry counts and URLs around it.
fn root_text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    text
}

/// An element of an error document of S3 or Azure, such as `Code` in `<Code>NoSuchBucket</Code>`.
fn part<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// How object_store begins the text of an answer with a status that is no success. The body follows.
const STATUS: &str = "Server returned non-2xx status code: ";

/// The status of such an answer.
fn status(text: &str) -> Option<u16> {
    text.strip_prefix(STATUS)?.split(' ').next()?.parse().ok()
}

/// Maximum characters of a text that a store sent (300).
const MAX_TEXT: usize = 300;

/// What a person may see of an error's text. Bodies of answers are left out, except for the code and the message of an
/// error document: S3 repeats an invalid session token in its body, and a proxy may send a whole page.
fn summary(text: &str) -> String {
    let body = text.strip_prefix(STATUS);
    let summary = match (part(text, "Code"), part(text, "Message"), body) {
        // Azure appends lines with the number and the time of the request.
        (Some(code), Some(message), _) => format!("{code}: {}", message.lines().next().unwrap_or_default()),
        (Some(code), None, _) => code.to_owned(),
        (None, _, Some(body)) => format!("the store answered {}", body.split(": ").next().unwrap_or_default()),
        (None, _, None) => text.lines().next().unwrap_or_default().to_owned(),
    };
    summary.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(error: Error) -> Failure {
        let (url, authority) = ("s3://lake".to_owned(), "lake".to_owned());
        let bucket = Bucket { scheme: Scheme::S3, url, authority, is_of_table: false };
        let config = LocationConfig { profile: Some("etl".to_owned()), ..LocationConfig::default() };
        let path = Path::from("a/b.parquet");
        let place = Place { bucket: &bucket, path: &path, action: "read", config: &config };
        let again = place.explain(place.explain(error));
        again.source().and_then(|source| source.downcast_ref::<Failure>()).expect("it was explained").clone()
    }

    fn document(code: &str) -> Error {
        let source = format!("status 400: <Error><Code>{code}</Code><Message>m</Message></Error>").into();
        Error::Generic { store: "S3", source }
    }

    #[test]
    fn sentences_name_location_action_identity_and_remedy() {
        let denied = Error::PermissionDenied { path: "a".to_owned(), source: "403".into() };
        for (error, kind, sentence) in [
            (
                denied,
                FailureKind::UserError,
                "s3://lake/a/b.parquet may not be read by the profile \"etl\"; give that identity access, or set credentials in [storage.\"s3://lake\"]",
            ),
            (document("NoSuchBucket"), FailureKind::UserError, "there is no bucket s3://lake"),
            (
                document("ExpiredToken"),
                FailureKind::UserError,
                "s3://lake/a/b.parquet cannot be read: the session token of the profile \"etl\" has expired; renew it",
            ),
            (
                document("PermanentRedirect"),
                FailureKind::UserError,
                "s3://lake/a/b.parquet cannot be read: the bucket is in another region; set region in [storage.\"s3://lake\"]",
            ),
            (
                Error::NotFound { path: "a".to_owned(), source: "404".into() },
                FailureKind::UserError,
                "the file s3://lake/a/b.parquet does not exist",
            ),
            (
                Error::Generic { store: "S3", source: "Connection refused".into() },
                FailureKind::StoreUnavailable,
                "s3://lake/a/b.parquet cannot be read: Connection refused",
            ),
        ] {
            assert_eq!(explained(error), Failure::new(kind, sentence));
        }
    }
}
