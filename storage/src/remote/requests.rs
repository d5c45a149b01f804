//! What a section of the configuration says about the requests to its store.

use object_store::{ClientOptions, Error, Result, RetryConfig};

use crate::config::LocationConfig;
use crate::secret::SecretSource;

/// The deadlines of a request.
pub(super) fn client_options(config: &LocationConfig) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(config.allow_http)
        .with_connect_timeout(config.connect_timeout())
        // The connector ends silent requests. An answer may take as long as its reader does.
        .with_timeout_disabled()
}

/// How failed requests are tried again: with growing pauses that vary at random, until `retry_timeout` is over.
pub(super) fn retry(config: &LocationConfig) -> RetryConfig {
    RetryConfig { retry_timeout: config.retry_timeout(), ..RetryConfig::default() }
}

/// Reads the secret of the setting `name`, if it is set.
pub(super) fn secret(name: &str, source: Option<&SecretSource>) -> Result<Option<String>> {
    let Some(source) = source else { return Ok(None) };
    let secret = source.read().map_err(|problem| invalid(format!("{name} cannot be used: {problem}")))?;
    Ok(Some(secret.reveal().to_owned()))
}

/// An error of the configuration, which only the operator can correct.
pub(super) fn invalid(problem: String) -> Error {
    Error::NotSupported { source: problem.into() }
}
