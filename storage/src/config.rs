//! The `[storage."…"]` sections of the configuration: how the stores of some locations are reached.

use std::collections::BTreeMap;
use std::time::Duration;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::location::{Location, Scheme};
use crate::secret::SecretSource;

/// The sections, each for the locations below a prefix. For a file the section with the longest prefix counts.
#[derive(Clone, Debug, Default)]
pub struct StorageConfig {
    sections: Vec<(Location, LocationConfig)>,
}

impl StorageConfig {
    /// The sections of a configuration file, by the URLs of their prefixes.
    ///
    /// # Errors
    ///
    /// A sentence if a URL is no location, two sections are about one location, or a setting does not fit its store.
    pub fn new(sections: BTreeMap<String, LocationConfig>) -> Result<Self, String> {
        let mut parsed: Vec<(Location, LocationConfig)> = vec![];
        for (url, section) in sections {
            let location = Location::parse(&url)?;
            let problem = |problem: String| format!("[storage.\"{url}\"]: {problem}");
            section.check(location.scheme).map_err(problem)?;
            if section.secrets().any(|(_, secret)| matches!(secret, SecretSource::Value(_))) {
                return Err(problem("a secret does not stand in the configuration".to_owned()));
            }
            if parsed.iter().any(|(other, _)| *other == location) {
                return Err(problem("there is another section for this location; put them together".to_owned()));
            }
            parsed.push((location, section));
        }
        Ok(Self { sections: parsed })
    }

    /// The sections as a scheduler sends them to an executor: a location and its settings in JSON. With `secrets` they
    /// have the secrets themselves, else the names of the variables and files, which the executor may have too.
    pub fn to_wire(&self, secrets: bool) -> Vec<(String, String)> {
        let encode = |(location, section): &(Location, LocationConfig)| {
            let mut section = section.clone();
            if secrets {
                section.read_secrets();
            }
            (location.to_string(), serde_json::to_string(&section).expect("settings are texts, numbers and flags"))
        };
        self.sections.iter().map(encode).collect()
    }

    /// Adds the sections that a scheduler has sent, without those for locations that this configuration has.
    ///
    /// # Errors
    ///
    /// A sentence if a section cannot be read.
    pub fn with_wire(&self, sent: &[(String, String)]) -> Result<Self, String> {
        let mut sections = self.sections.clone();
        for (url, settings) in sent {
            let location = Location::parse(url)?;
            // The text of the error could have a secret.
            let section =
                serde_json::from_str(settings).map_err(|_| format!("the settings of {url} cannot be read"))?;
            if !self.sections.iter().any(|(own, _)| *own == location) {
                sections.push((location, section));
            }
        }
        Ok(Self { sections })
    }

    /// Whether a section has secrets.
    pub fn has_secrets(&self) -> bool {
        self.sections.iter().any(|(_, section)| section.secrets().next().is_some())
    }

    /// The prefixes of the sections.
    pub fn locations(&self) -> impl Iterator<Item = &Location> {
        self.sections.iter().map(|(location, _)| location)
    }

    /// The sections for one bucket or host.
    pub(crate) fn of(&self, scheme: Scheme, authority: &str) -> Vec<(Path, LocationConfig)> {
        let sections = self.sections.iter();
        let own = sections.filter(|(location, _)| location.scheme == scheme && location.authority == authority);
        own.map(|(location, section)| (location.path.clone(), section.clone())).collect()
    }
}

/// How to reach the store of a location. What is absent is found by the cloud's default chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocationConfig {
    /// The URL of a server that is compatible with the cloud's.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Whether the bucket stands in the path of a URL (the default with an endpoint) or before the host.
    pub path_style: Option<bool>,
    /// Whether the endpoint may be reached without encryption.
    pub allow_http: bool,
    /// Whether requests are not signed.
    pub anonymous: bool,
    /// The profile in the files of AWS's command line.
    pub profile: Option<String>,
    /// The ARN of a role to assume.
    pub role: Option<String>,
    pub access_key_id: Option<SecretSource>,
    pub secret_access_key: Option<SecretSource>,
    pub session_token: Option<SecretSource>,
    /// The key of a Google service account, in JSON.
    pub service_account_key: Option<SecretSource>,
    /// The storage account of Azure.
    pub account: Option<String>,
    pub account_key: Option<SecretSource>,
    pub sas_token: Option<SecretSource>,
    pub tenant_id: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretSource>,
    /// Whether tokens come from Azure's command line.
    pub azure_cli: bool,
    /// The token of an HTTP server.
    pub bearer_token: Option<SecretSource>,
    /// Seconds to connect (5).
    pub connect_timeout: Option<u64>,
    /// Seconds that a store may be silent during a request (60).
    pub request_timeout: Option<u64>,
    /// Seconds in which a request is tried again after failures (60).
    pub retry_timeout: Option<u64>,
}

/// The setting's names of one kind of store.
fn settings_of(scheme: Scheme) -> &'static [&'static str] {
    match scheme {
        Scheme::File => &[],
        Scheme::S3 => &[
            "endpoint",
            "region",
            "path_style",
            "allow_http",
            "anonymous",
            "profile",
            "role",
            "access_key_id",
            "secret_access_key",
            "session_token",
        ],
        Scheme::Gcs => &["endpoint", "allow_http", "anonymous", "service_account_key"],
        Scheme::Azure => &[
            "endpoint",
            "allow_http",
            "anonymous",
            "account",
            "account_key",
            "sas_token",
            "tenant_id",
            "client_id",
            "client_secret",
            "azure_cli",
        ],
        Scheme::Http | Scheme::Https => &["bearer_token"],
        Scheme::Hdfs => &[],
    }
}

impl LocationConfig {
    pub(crate) fn check(&self, scheme: Scheme) -> Result<(), String> {
        let given = [
            ("endpoint", self.endpoint.is_some()),
            ("region", self.region.is_some()),
            ("path_style", self.path_style.is_some()),
            ("allow_http", self.allow_http),
            ("anonymous", self.anonymous),
            ("profile", self.profile.is_some()),
            ("role", self.role.is_some()),
            ("account", self.account.is_some()),
            ("tenant_id", self.tenant_id.is_some()),
            ("client_id", self.client_id.is_some()),
            ("azure_cli", self.azure_cli),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name);
        let mut given = given.chain(self.secrets().map(|(name, _)| name));
        let known = settings_of(scheme);
        if let Some(name) = given.find(|name| !known.contains(name)) {
            return Err(match known {
                [] => format!("locations of this kind have no setting \"{name}\""),
                _ => format!("locations of this kind have no setting \"{name}\"; they have {}", known.join(", ")),
            });
        }
        if let Some(endpoint) = &self.endpoint
            && endpoint.starts_with("http://")
            && !self.allow_http
        {
            return Err(format!("the endpoint {endpoint} is not encrypted; use https, or set allow_http = true"));
        }
        // The region becomes a part of the host's name.
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if self.region.as_ref().is_some_and(|region| region.is_empty() || !region.chars().all(is_letter)) {
            return Err("a region has only letters, digits and -; write it like eu-west-1".to_owned());
        }
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return Err("access_key_id and secret_access_key belong together; set both or none".to_owned());
        }
        match self.anonymous && (self.access_key_id.is_some() || self.profile.is_some() || self.role.is_some()) {
            true => Err("anonymous requests have no credentials; leave out the keys, the profile and the role, or \
                         anonymous"
                .to_owned()),
            false => Ok(()),
        }
    }

    /// The secrets that are set, with their names.
    fn secrets(&self) -> impl Iterator<Item = (&'static str, &SecretSource)> {
        let named = [
            ("access_key_id", &self.access_key_id),
            ("secret_access_key", &self.secret_access_key),
            ("session_token", &self.session_token),
            ("service_account_key", &self.service_account_key),
            ("account_key", &self.account_key),
            ("sas_token", &self.sas_token),
            ("client_secret", &self.client_secret),
            ("bearer_token", &self.bearer_token),
        ];
        named.into_iter().filter_map(|(name, secret)| Some((name, secret.as_ref()?)))
    }

    /// Puts secrets in the place of their sources. A secret that cannot be read keeps its source.
    fn read_secrets(&mut self) {
        let all = [
            &mut self.access_key_id,
            &mut self.secret_access_key,
            &mut self.session_token,
            &mut self.service_account_key,
            &mut self.account_key,
            &mut self.sas_token,
            &mut self.client_secret,
            &mut self.bearer_token,
        ];
        for source in all.into_iter().flatten() {
            if let Ok(secret) = source.read() {
                *source = SecretSource::Value(secret);
            }
        }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout.unwrap_or(5))
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout.unwrap_or(60))
    }

    pub(crate) fn retry_timeout(&self) -> Duration {
        Duration::from_secs(self.retry_timeout.unwrap_or(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StorageConfig, String> {
        let sections: BTreeMap<String, LocationConfig> = toml::from_str(text).map_err(|error| error.to_string())?;
        StorageConfig::new(sections)
    }

    #[test]
    fn sections_are_for_prefixes_of_one_bucket() {
        let config = parse(
            "[\"s3://lake\"]\nregion = \"eu-west-1\"\n\
             [\"s3a://lake/public/\"]\nanonymous = true\n\
             [\"s3://other\"]\naccess_key_id = { env = \"ID\" }\nsecret_access_key = { file = \"/run/key\" }",
        )
        .expect("valid");
        let of_lake = config.of(Scheme::S3, "lake");
        let paths: Vec<_> = of_lake.iter().map(|(path, section)| (path.to_string(), section.anonymous)).collect();
        assert_eq!(paths, [(String::new(), false), ("public".to_owned(), true)]);
        assert_eq!(config.of(Scheme::Gcs, "lake"), []);
        let keys = &config.of(Scheme::S3, "other")[0].1;
        assert_eq!(keys.secret_access_key, Some(SecretSource::File("/run/key".into())));
    }

    #[test]
    fn an_executors_own_sections_win_over_those_of_its_scheduler() {
        let text =
            |region: &str| format!("[\"s3://a\"]\nregion = \"{region}\"\nsession_token = {{ file = \"/none\" }}");
        let sent = parse(&text("sent")).expect("valid").to_wire(true);
        let region = |config: StorageConfig| config.of(Scheme::S3, "a")[0].1.region.clone();
        assert_eq!(region(StorageConfig::default().with_wire(&sent).expect("it is read")).as_deref(), Some("sent"));
        let own = parse(&text("own")).expect("valid");
        assert_eq!(region(own.with_wire(&sent).expect("it is read")).as_deref(), Some("own"));
    }

    #[test]
    fn secrets_are_sent_only_if_asked_for() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "hush\n").expect("a secret");
        let config = parse(&format!("[\"https://a\"]\nbearer_token = {{ file = {:?} }}", file.path())).expect("valid");
        assert!(config.has_secrets() && !format!("{config:?}").contains("hush"));
        assert!(!config.to_wire(false)[0].1.contains("hush"));
        let received = StorageConfig::default().with_wire(&config.to_wire(true)).expect("it is read");
        let token = received.of(Scheme::Https, "a")[0].1.bearer_token.clone().expect("it was sent");
        assert_eq!(token.read().map(|secret| secret.reveal().to_owned()).as_deref(), Ok("hush"));
        assert!(!format!("{received:?}").contains("hush"));
    }

    #[test]
    fn settings_that_contradict_are_refused_in_a_sentence() {
        for (text, problem) in [
            ("[\"s3://a\"]\naccount_key = { env = \"K\" }", "have no setting \"account_key\"; they have endpoint,"),
            ("[\"s3://a\"]\naccess_key_id = { env = \"K\" }", "belong together"),
            ("[\"s3://a\"]\nanonymous = true\nprofile = \"x\"", "anonymous requests have no credentials"),
            ("[\"s3://a\"]\nendpoint = \"http://x\"", "is not encrypted"),
            ("[\"s3://a\"]\nregion = \"x@evil.example/\"", "has only letters, digits and -"),
            ("[\"s3://a\"]\n[\"s3a://a/\"]", "another section for this location"),
            ("[\"s3://a\"]\nsession_token = { value = \"x\" }", "a secret does not stand in the configuration"),
            ("[\"ftp://a\"]", "there is no store for ftp://"),
            ("[\"s3://a\"]\nregoin = \"x\"", "unknown field `regoin`"),
            (
                "[\"s3://a\"]\naccess_key_id = \"AKIA\"\nsecret_access_key = \"x\"",
                "a secret does not stand in the configuration",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
