//! Secrets and where they come from.

use std::fmt;
use std::path::PathBuf;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// A secret. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret of the configuration is read from: `{ env = "NAME" }` or `{ file = "/path" }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Written", rename_all = "snake_case")]
pub enum SecretSource {
    /// The name of an environment variable.
    Env(String),
    /// The path of a file. White space around the secret is left out.
    File(PathBuf),
    /// The secret itself. Only a scheduler's message to its executors and the record of a table's store have it.
    Value(Secret),
}

/// A secret's source as the configuration has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Env {
        env: String,
    },
    File {
        file: PathBuf,
    },
    Value {
        value: Secret,
    },
    /// Anything else. It may be the secret itself, so no error shows it.
    Other(IgnoredAny),
}

impl TryFrom<Written> for SecretSource {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Env { env } => Ok(Self::Env(env)),
            Written::File { file } => Ok(Self::File(file)),
            Written::Value { value } => Ok(Self::Value(value)),
            Written::Other(_) => Err("a secret does not stand in the configuration; write { env = \"NAME\" } or \
                                      { file = \"PATH\" }"),
        }
    }
}

impl SecretSource {
    /// Reads the secret.
    ///
    /// # Errors
    ///
    /// A sentence if the variable is not set, or the file cannot be read or is empty.
    pub fn read(&self) -> Result<Secret, String> {
        let value = match self {
            Self::Env(name) => {
                std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?
            }
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?,
            Self::Value(secret) => return Ok(secret.clone()),
        };
        match value.trim() {
            "" => Err(match self {
                Self::Env(name) => format!("the environment variable {name} is empty"),
                Self::File(path) => format!("the file {} is empty", path.display()),
                Self::Value(_) => "the secret is empty".to_owned(),
            }),
            value => Ok(Secret::new(value)),
        }
    }
}
