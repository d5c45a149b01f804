//! Builds object_store's stores from sections of the configuration.

use std::sync::Arc;

use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{HeaderMap, HeaderValue, ObjectStore, Result};

use super::requests::{client_options, invalid, retry, secret};
use super::{Bucket, Connector, aws};
use crate::config::LocationConfig;
use crate::location::Scheme;

/// The variable that names Azure's storage account.
const ACCOUNT_VARIABLE: &str = "AZURE_STORAGE_ACCOUNT_NAME";

/// The store of `bucket` as `config` says.
pub(super) async fn build(
    bucket: &Bucket,
    config: &LocationConfig,
    connector: &Connector,
) -> Result<Arc<dyn ObjectStore>> {
    Ok(match bucket.scheme {
        Scheme::S3 => aws::build(bucket, config, connector).await?,
        Scheme::Gcs => gcs(bucket, config, connector)?,
        Scheme::Azure => azure(bucket, config, connector)?,
        Scheme::Http | Scheme::Https => http(bucket, config, connector)?,
        Scheme::Hdfs => hdfs(bucket, connector)?,
        Scheme::File => return Err(invalid("local files have no remote store".to_owned())),
    })
}

fn gcs(bucket: &Bucket, config: &LocationConfig, connector: &Connector) -> Result<Arc<dyn ObjectStore>> {
    let key = secret("service_account_key", config.service_account_key.as_ref())?;
    // Credentials of the section count before those of the environment.
    let builder = match key.is_some() || config.anonymous {
        true => GoogleCloudStorageBuilder::new(),
        false => GoogleCloudStorageBuilder::from_env(),
    };
    let mut builder = builder
        .with_bucket_name(&bucket.authority)
        .with_client_options(client_options(config))
        .with_retry(retry(config))
        .with_http_connector(connector.with_silence(config.request_timeout()))
        .with_skip_signature(config.anonymous);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let has_key = key.is_some();
    if let Some(key) = key {
        builder = builder.with_service_account_key(key);
    }
    built(builder.build(), has_key.then_some("service_account_key"))
}

/// The store; an error of the builder names the setting that is to blame. The builder's own text may have the secret.
fn built<S: ObjectStore>(store: Result<S>, setting: Option<&str>) -> Result<Arc<dyn ObjectStore>> {
    match (store, setting) {
        (Ok(store), _) => Ok(Arc::new(store)),
        (Err(_), Some(setting)) => Err(invalid(format!("{setting} is not valid; correct it in the [storage] section"))),
        (Err(error), None) => Err(invalid(error.to_string())),
    }
}

fn azure(bucket: &Bucket, config: &LocationConfig, connector: &Connector) -> Result<Arc<dyn ObjectStore>> {
    let (account_key, sas_token, client_secret) = (
        secret("account_key", config.account_key.as_ref())?,
        secret("sas_token", config.sas_token.as_ref())?,
        secret("client_secret", config.client_secret.as_ref())?,
    );
    let has_credentials = account_key.is_some() || sas_token.is_some() || client_secret.is_some();
    // Credentials of the section count before those of the environment.
    let builder = match has_credentials || config.anonymous || config.azure_cli {
        true => MicrosoftAzureBuilder::new(),
        false => MicrosoftAzureBuilder::from_env(),
    };
    let account = config.account.clone().or_else(|| std::env::var(ACCOUNT_VARIABLE).ok());
    let mut builder = builder
        .with_url(format!("{}/", bucket.url))
        .with_client_options(client_options(config))
        .with_retry(retry(config))
        .with_http_connector(connector.with_silence(config.request_timeout()))
        .with_skip_signature(config.anonymous)
        .with_allow_http(config.allow_http);
    if account.is_none() && !bucket.authority.contains('@') && config.endpoint.is_none() {
        return Err(invalid(format!(
            "the storage account is unknown; write az://CONTAINER@ACCOUNT.blob.core.windows.net, or set account in \
             [storage.\"{}\"] or the environment variable {ACCOUNT_VARIABLE}",
            bucket.url
        )));
    }
    if config.azure_cli {
        builder = builder.with_use_azure_cli(true);
    }
    if let Some(account) = account.filter(|_| config.account.is_some() || !bucket.authority.contains('@')) {
        builder = builder.with_account(account);
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let setting = account_key.as_ref().map(|_| "account_key").or(sas_token.as_ref().map(|_| "sas_token"));
    if let Some(key) = account_key {
        builder = builder.with_access_key(key);
    }
    if let Some(token) = sas_token {
        let pairs = url::form_urlencoded::parse(token.trim_start_matches('?').as_bytes());
        builder = builder.with_sas_authorization(pairs.into_owned().collect::<Vec<_>>());
    }
    if let Some(id) = &config.client_id {
        builder = builder.with_client_id(id);
    }
    if let Some(tenant) = &config.tenant_id {
        builder = builder.with_tenant_id(tenant);
    }
    if let Some(key) = client_secret {
        builder = builder.with_client_secret(key);
    }
    built(builder.build(), setting)
}

fn http(bucket: &Bucket, config: &LocationConfig, connector: &Connector) -> Result<Arc<dyn ObjectStore>> {
    let mut options = client_options(config).with_allow_http(bucket.scheme == Scheme::Http);
    if let Some(token) = secret("bearer_token", config.bearer_token.as_ref())? {
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| invalid("bearer_token has characters that no header may have".to_owned()))?;
        value.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert("authorization", value);
        options = options.with_default_headers(headers);
    }
    let builder = HttpBuilder::new()
        .with_url(&bucket.url)
        .with_client_options(options)
        .with_retry(retry(config))
        .with_http_connector(connector.with_silence(config.request_timeout()));
    Ok(Arc::new(builder.build().map_err(|error| invalid(error.to_string()))?))
}

#[cfg(feature = "hdfs")]
fn hdfs(bucket: &Bucket, connector: &Connector) -> Result<Arc<dyn ObjectStore>> {
    let builder = hdfs_native_object_store::HdfsObjectStoreBuilder::new()
        .with_url(&bucket.url)
        .with_io_runtime(connector.io().clone());
    Ok(Arc::new(builder.build().map_err(|error| invalid(error.to_string()))?))
}

#[cfg(not(feature = "hdfs"))]
fn hdfs(_: &Bucket, _: &Connector) -> Result<Arc<dyn ObjectStore>> {
    Err(invalid("this build of Hwacha has no HDFS client; build it with the feature \"hdfs\"".to_owned()))
}
