//! The store of a table whose statement describes it: `OPTIONS ('aws.region' 'eu-west-1', …)`, by the names of
//! datafusion-cli.
//!
//! Such a store has a name of its own, which stands before the bucket in the table's URLs: `s3://NAME@lake/sales/`. So
//! other tables of the bucket do not use it. It reads only the locations of its table.

use object_store::path::Path;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::config::LocationConfig;
use crate::location::{Location, Scheme};
use crate::secret::{Secret, SecretSource};

/// The prefixes of options about stores.
const PREFIXES: [&str; 3] = ["aws.", "gcp.", "azure."];

/// The store of one table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TableStore {
    /// The locations of the table, up to their patterns.
    locations: Vec<String>,
    config: LocationConfig,
}

impl TableStore {
    /// Whether an option is about the store and not about the files.
    pub fn is_option(name: &str) -> bool {
        PREFIXES.iter().any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
    }

    /// The store that `options` describe, for a table with these `locations`.
    ///
    /// # Errors
    ///
    /// A sentence without any value of the options.
    pub fn of_options(locations: &[String], options: &[(String, String)]) -> Result<Self, String> {
        let parsed = locations.iter().map(|location| Location::of_place(fixed_part(location)));
        let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
        let Some(scheme) = parsed.first().map(|location| location.scheme) else {
            return Err("a table needs a location".to_owned());
        };
        if parsed.iter().any(|location| location.table.is_some()) {
            return Err("a location has no name before the bucket; leave out the part before @".to_owned());
        }
        if !matches!(scheme, Scheme::S3 | Scheme::Gcs) {
            return Err(format!(
                "only tables in s3:// and gs:// have options about their store; describe {} in a [storage] section",
                parsed[0]
            ));
        }
        let mut config = LocationConfig::default();
        for (name, value) in options {
            set(&mut config, scheme, &name.to_ascii_lowercase(), value)?;
        }
        config.check(scheme)?;
        if config.allow_http && config.endpoint.is_none() {
            return Err("the option aws.allow_http is for an endpoint; give aws.endpoint, or leave it out".to_owned());
        }
        let has_keys = config.access_key_id.is_some() || config.service_account_key.is_some();
        if !has_keys && !config.anonymous {
            return Err(match scheme {
                Scheme::S3 => "options about a store need credentials of their own; give aws.access_key_id and \
                               aws.secret_access_key, or aws.skip_signature 'true', or use a [storage] section"
                    .to_owned(),
                _ => "options about a store need credentials of their own; give gcp.service_account_key, or use a \
                      [storage] section"
                    .to_owned(),
            });
        }
        Ok(Self { locations: parsed.iter().map(Location::to_string).collect(), config })
    }

    /// The URL of the server that the options name.
    pub fn endpoint(&self) -> Option<&str> {
        self.config.endpoint.as_deref()
    }

    /// The store as text, with its secrets.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("settings are texts, numbers and flags")
    }

    /// Reads what [`TableStore::to_text`] wrote.
    ///
    /// # Errors
    ///
    /// A sentence without the text, which has secrets.
    pub fn of_text(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|_| "the record of the table's store is damaged".to_owned())
    }

    /// The sections for `authority`.
    pub(crate) fn sections(&self, scheme: Scheme, authority: &str) -> Vec<(Path, LocationConfig)> {
        let locations = self.locations.iter().filter_map(|location| Location::parse(location).ok());
        let own = locations.filter(|location| location.scheme == scheme && location.authority == authority);
        own.map(|location| (location.path, self.config.clone())).collect()
    }
}

/// `location` with the name of a table's store before its bucket; `None` if it is not written as a URL.
pub fn in_table_store(location: &str, name: &str) -> Option<String> {
    let (scheme, rest) = location.split_once("://")?;
    Some(format!("{scheme}://{name}@{rest}"))
}

/// Whether a location names the store of a table. Only the catalog writes such locations.
pub fn names_table_store(location: &str) -> bool {
    Location::of_place(fixed_part(location)).is_ok_and(|location| location.table.is_some())
}

/// The part of a location before a pattern. Example: `s3://lake/20*/x.parquet` lists `s3://lake`.
pub(crate) fn fixed_part(location: &str) -> &str {
    match location.find('*') {
        Some(pattern) => location[..pattern].rsplit_once('/').map_or(".", |(folder, _)| folder),
        None => location,
    }
}

/// Sets what one option says.
fn set(config: &mut LocationConfig, scheme: Scheme, name: &str, value: &str) -> Result<(), String> {
    let value = value.trim();
    if value.is_empty() || (name != "gcp.service_account_key" && value.chars().any(char::is_control)) {
        return Err(format!("the option {name} is empty or has a line break"));
    }
    let secret = || Some(SecretSource::Value(Secret::new(value)));
    let flag = || match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("the option {name} is 'true' or 'false'")),
    };
    match (scheme, name) {
        (Scheme::S3, "aws.access_key_id") => config.access_key_id = secret(),
        (Scheme::S3, "aws.secret_access_key") => config.secret_access_key = secret(),
        (Scheme::S3, "aws.session_token") => config.session_token = secret(),
        (Scheme::S3, "aws.region") => config.region = Some(value.to_owned()),
        (Scheme::S3, "aws.endpoint") => config.endpoint = Some(value.to_owned()),
        (Scheme::S3, "aws.allow_http") => config.allow_http = flag()?,
        (Scheme::S3, "aws.skip_signature") => config.anonymous = flag()?,
        (Scheme::Gcs, "gcp.service_account_key") if names_server(value) => {
            return Err("the key of a service account may not name a server of its own".to_owned());
        }
        (Scheme::Gcs, "gcp.service_account_key") => config.service_account_key = secret(),
        (Scheme::Gcs, "gcp.service_account_path" | "gcp.application_credentials_path") => {
            return Err(format!(
                "the option {name} would read a file of the server; give the key itself with gcp.service_account_key"
            ));
        }
        (Scheme::S3, _) => {
            return Err(format!(
                "tables in s3:// have no option {name}; they have aws.access_key_id, aws.secret_access_key, \
                 aws.session_token, aws.region, aws.endpoint, aws.allow_http and aws.skip_signature"
            ));
        }
        _ => return Err(format!("tables in gs:// have no option {name}; they have gcp.service_account_key")),
    }
    Ok(())
}

/// Whether the JSON of a key says to which server the requests go. Such a key is for tests.
fn names_server(key: &str) -> bool {
    let fields: Result<std::collections::HashMap<String, IgnoredAny>, _> = serde_json::from_str(key);
    fields.is_ok_and(|fields| ["gcs_base_url", "disable_oauth"].iter().any(|name| fields.contains_key(*name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(location: &str, options: &[(&str, &str)]) -> Result<TableStore, String> {
        let options: Vec<_> = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        TableStore::of_options(&[location.to_owned()], &options)
    }

    #[test]
    fn a_tables_store_is_for_its_locations() {
        let keys = [("AWS.Access_Key_Id", "AKIA"), ("aws.secret_access_key", "hush"), ("aws.region", "eu-west-1")];
        let store = of("s3a://lake/sales/2026-*/x.parquet", &keys).expect("valid");
        assert!(!format!("{store:?}").contains("hush"));
        let again = TableStore::of_text(&store.to_text()).expect("it is read");
        assert_eq!(again, store);
        let sections = again.sections(Scheme::S3, "lake");
        assert_eq!(sections[0].0, Path::from("sales"));
        assert_eq!(sections[0].1.secret_access_key, Some(SecretSource::Value(Secret::new("hush"))));
        assert_eq!(again.sections(Scheme::S3, "other"), []);
        assert_eq!(in_table_store("s3://lake/sales/", "n").as_deref(), Some("s3://n@lake/sales/"));
    }

    #[test]
    fn options_that_cannot_be_carried_out_are_refused_without_their_values() {
        let anonymous = ("aws.skip_signature", "true");
        for (location, options, problem) in [
            ("s3://lake/x", &[("aws.region", "hush")][..], "need credentials of their own"),
            ("s3://lake/x", &[anonymous, ("aws.acl", "hush")], "have no option aws.acl"),
            ("s3://lake/x", &[("aws.skip_signature", "hush")], "is 'true' or 'false'"),
            ("s3://lake/x", &[("aws.access_key_id", "hush")], "belong together"),
            ("s3://lake/x", &[anonymous, ("aws.endpoint", "http://hush:1")], "not encrypted"),
            ("s3://lake/x", &[anonymous, ("aws.region", "x@hush.example/")], "has only letters, digits and -"),
            ("s3://lake/x", &[anonymous, ("aws.allow_http", "true")], "is for an endpoint"),
            ("s3://lake/x", &[anonymous, ("aws.session_token", "hush\nx")], "has a line break"),
            ("gs://lake/x", &[("gcp.service_account_key", "{\"gcs_base_url\": \"hush\"}")], "a server of its own"),
            ("s3://me@lake/x", &[anonymous], "leave out the part before @"),
            ("gs://lake/x", &[("gcp.service_account_path", "/hush")], "would read a file of the server"),
            ("/data/x", &[anonymous], "only tables in s3:// and gs://"),
        ] {
            let error = of(location, options).expect_err(problem);
            assert!(error.contains(problem), "{error}");
            assert!(!error.contains("hush") || problem == "not encrypted", "{error}");
        }
    }
}
