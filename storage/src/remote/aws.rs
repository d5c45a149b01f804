//! S3: region and credentials as AWS's own tools find them.
//!
//! object_store knows neither profiles nor SSO, so the AWS SDK finds credentials: environment, profile, SSO, web
//! identity, ECS and EC2.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use object_store::aws::{AmazonS3Builder, AwsCredential, resolve_bucket_region};
use object_store::{CredentialProvider, Error, ObjectStore, Result};
use tokio::sync::Mutex;

use super::requests::{client_options, invalid, retry, secret};
use super::{Bucket, Connector};
use crate::config::LocationConfig;

/// The region of requests to servers that are not AWS's and name no region.
const ANY_REGION: &str = "us-east-1";
/// How long before they expire credentials are renewed (5 minutes).
const RENEWED_BEFORE: Duration = Duration::from_secs(300);
/// How long the SDK may look for credentials (30 s).
const DEADLINE: Duration = Duration::from_secs(30);
/// The places in which the SDK looks for credentials.
const PLACES: &str = "the environment variables of AWS, the profile, SSO, web identity, the containers' credentials \
                      of ECS and EKS, and the instance's metadata";

/// The store of a bucket in S3, or in a server that is compatible.
pub(super) async fn build(
    bucket: &Bucket,
    config: &LocationConfig,
    connector: &Connector,
) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.authority)
        .with_client_options(client_options(config))
        .with_retry(retry(config))
        .with_http_connector(connector.with_silence(config.request_timeout()))
        .with_allow_http(config.allow_http)
        .with_skip_signature(config.anonymous);
    let keys = secret("access_key_id", config.access_key_id.as_ref())?
        .zip(secret("secret_access_key", config.secret_access_key.as_ref())?);
    // Keys and anonymous requests need nothing of the SDK, whose search for a region may ask the instance's metadata.
    let needs_sdk = !config.anonymous && keys.is_none() || config.role.is_some();
    let sdk = match needs_sdk || config.profile.is_some() {
        true => Some(loader(config).load().await),
        false => None,
    };
    if let Some((id, key)) = keys {
        builder = builder.with_access_key_id(id).with_secret_access_key(key);
        if let Some(token) = secret("session_token", config.session_token.as_ref())? {
            builder = builder.with_token(token);
        }
    }
    if needs_sdk && let Some(sdk) = &sdk {
        builder = builder.with_credentials(Arc::new(SdkCredentials::new(provider(sdk, config).await?)));
    }
    let endpoint = config.endpoint.clone().or_else(|| sdk.as_ref()?.endpoint_url().map(str::to_owned));
    let known = config.region.clone().or_else(|| Some(sdk.as_ref()?.region()?.to_string()));
    let region = match (known, &endpoint) {
        (Some(region), _) => region,
        (None, Some(_)) => ANY_REGION.to_owned(),
        (None, None) => resolve_bucket_region(&bucket.authority, &client_options(config)).await?,
    };
    if let Some(endpoint) = endpoint {
        let is_path_style = config.path_style.unwrap_or(true);
        builder = builder.with_endpoint(endpoint).with_virtual_hosted_style_request(!is_path_style);
    } else {
        builder = builder.with_virtual_hosted_style_request(!config.path_style.unwrap_or(false));
    }
    Ok(Arc::new(builder.with_region(region).build().map_err(|error| invalid(error.to_string()))?))
}

fn loader(config: &LocationConfig) -> ConfigLoader {
    let tls = Provider::Rustls(CryptoMode::Ring);
    let client = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(client);
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    loader
}

/// The SDK's provider, or the provider of the role that it may assume.
async fn provider(sdk: &SdkConfig, config: &LocationConfig) -> Result<SharedCredentialsProvider> {
    if let Some(role) = &config.role {
        let role = AssumeRoleProvider::builder(role).session_name("hwacha").configure(sdk).build().await;
        return Ok(SharedCredentialsProvider::new(role));
    }
    sdk.credentials_provider().ok_or_else(|| without_credentials("there are none".into()))
}

/// Credentials from the SDK. They are kept until shortly before they expire, because a store asks for them before each
/// request.
struct SdkCredentials {
    provider: SharedCredentialsProvider,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    credential: Arc<AwsCredential>,
    until: Option<SystemTime>,
}

impl SdkCredentials {
    fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, kept: Mutex::default() }
    }
}

impl fmt::Debug for SdkCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SdkCredentials").finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for SdkCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        // One request at a time asks the provider; the others wait for its answer.
        let mut kept = self.kept.lock().await;
        let is_fresh = |kept: &&Kept| kept.until.is_none_or(|until| SystemTime::now() + RENEWED_BEFORE < until);
        if let Some(kept) = kept.as_ref().filter(is_fresh) {
            return Ok(Arc::clone(&kept.credential));
        }
        let found = tokio::time::timeout(DEADLINE, self.provider.provide_credentials()).await;
        let found = found.map_err(|error| unavailable(Box::new(error)))?.map_err(|error| match error {
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
                without_credentials(Box::new(error))
            }
            error => unavailable(Box::new(error)),
        })?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *kept = Some(Kept { credential: Arc::clone(&credential), until: found.expiry() });
        Ok(credential)
    }
}

/// The service that gives credentials has failed; it may answer later.
fn unavailable(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic { store: "S3", source }
}

fn without_credentials(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    tracing::debug!(%error, "no credentials of AWS");
    Error::NotSupported {
        source: format!(
            "no credentials of AWS were found; looked in {PLACES}; set keys or a profile in the location's [storage] section, \
             or anonymous = true for public data"
        )
        .into(),
    }
}
