//! Keeps the webhook's certificate. In: the Secret that all replicas share, the time. Out: the
//! newest TLS configuration, and the authority in the ValidatingWebhookConfiguration.
//!
//! Every replica does the same, and all of it may be done twice. A replica serves a certificate
//! only after it has seen to it that the API server trusts it.

use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_runtime::Shutdown;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Settings;
use super::certificate::{CertificateError, Material};
use crate::names::MANAGER;
use akri_mqtt_cluster::words;

/// How often the Secret is read; a rotation by another replica is seen within this time.
const EVERY: Duration = Duration::from_secs(60);
/// The first pause after a failure; it doubles up to `EVERY`.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Another replica has written at the same time: what it wrote is read at once.
const AFTER_CONFLICT: Duration = Duration::from_millis(50);

/// Why the certificate or its authority could not be seen to.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Another replica was faster.
    #[error("the Secret has changed meanwhile")]
    Conflict,
    /// The Secret is out of reach.
    #[error("cannot {verb} the Secret {name}: {reason}")]
    Secret {
        /// What was tried.
        verb: &'static str,
        /// The Secret.
        name: String,
        /// What the API server said.
        reason: String,
    },
    /// The webhook configuration is out of reach.
    #[error("cannot put the authority into the ValidatingWebhookConfiguration {name}: {reason}")]
    Configuration {
        /// The configuration.
        name: String,
        /// What the API server said.
        reason: String,
    },
    /// There is no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Sees to the certificate of one webhook.
pub struct Keeper {
    settings: Settings,
    secrets: Api<Secret>,
    configurations: Api<ValidatingWebhookConfiguration>,
    served: Option<Material>,
    config: watch::Sender<Option<Arc<ServerConfig>>>,
}

impl Keeper {
    /// Nothing is asked of the cluster yet.
    #[must_use]
    pub fn new(
        settings: Settings,
        client: Client,
    ) -> (Self, watch::Receiver<Option<Arc<ServerConfig>>>) {
        let (config, receiver) = watch::channel(None);
        let keeper = Self {
            secrets: Api::namespaced(client.clone(), &settings.namespace),
            configurations: Api::all(client),
            settings,
            served: None,
            config,
        };
        (keeper, receiver)
    }

    /// Keeps it until the shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut retry = FIRST_RETRY;
        loop {
            let pause = match self.round(Timestamp::now()).await {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    EVERY
                }
                Err(KeepError::Conflict) => AFTER_CONFLICT,
                Err(error) => {
                    tracing::warn!(%error, again_in = ?retry, "the webhook's certificate is not in order");
                    let pause = retry;
                    retry = (retry * 2).min(EVERY);
                    pause
                }
            };
            tokio::select! {
                () = shutdown.triggered() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Reads the certificate, makes it if need be, has it trusted, and serves it.
    ///
    /// # Errors
    /// One of these does not work; what works is done.
    pub async fn round(&mut self, now: Timestamp) -> Result<(), KeepError> {
        let material = self.material(now).await?;
        let trusted = self.have_trusted(&material).await;
        if trusted.is_ok() || self.served.is_none() {
            self.serve(material)?;
        }
        trusted
    }

    async fn material(&self, now: Timestamp) -> Result<Material, KeepError> {
        let name = &self.settings.secret;
        let failed = |verb| {
            let name = name.clone();
            move |error: kube::Error| KeepError::Secret {
                verb,
                name,
                reason: words(&error),
            }
        };
        let found = self.secrets.get_opt(name).await.map_err(failed("read"))?;
        let dns_name = self.settings.dns_name();
        let before = match found.as_ref().map(Material::read) {
            Some(Ok(material)) if material.is_good(&dns_name, now) => return Ok(material),
            Some(Ok(material)) => Some(material),
            Some(Err(_)) | None => None,
        };
        let material = Material::make(&dns_name, now, before.as_ref())?;
        let exists = found.is_some();
        let mut secret = found.unwrap_or_default();
        secret.metadata.name = Some(name.clone());
        secret.metadata.managed_fields = None;
        material.fill(&mut secret);
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = if exists {
            self.secrets.replace(name, &parameters, &secret).await
        } else {
            self.secrets.create(&parameters, &secret).await
        };
        match written {
            Ok(_) => {
                tracing::info!(until = %material.until(), "certificate made");
                Ok(material)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Err(KeepError::Conflict)
            }
            Err(error) => Err(failed(if exists { "update" } else { "create" })(error)),
        }
    }

    /// Puts the authority into every webhook of ours that lacks it.
    async fn have_trusted(&self, material: &Material) -> Result<(), KeepError> {
        let name = &self.settings.configuration;
        let failed = |error: kube::Error| KeepError::Configuration {
            name: name.clone(),
            reason: words(&error),
        };
        let configuration = self.configurations.get(name).await.map_err(failed)?;
        let bundle = ByteString(material.bundle().as_bytes().to_vec());
        let webhooks: Vec<Value> = configuration
            .webhooks
            .iter()
            .flatten()
            .filter(|webhook| {
                let ours = webhook
                    .client_config
                    .service
                    .as_ref()
                    .is_some_and(|service| {
                        service.name == self.settings.service
                            && service.namespace == self.settings.namespace
                    });
                ours && webhook.client_config.ca_bundle.as_ref() != Some(&bundle)
            })
            .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}}))
            .collect();
        if webhooks.is_empty() {
            return Ok(());
        }
        let patch = Patch::Strategic(json!({"webhooks": webhooks}));
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = self.configurations.patch(name, &parameters, &patch).await;
        patched.map_err(failed)?;
        tracing::info!(configuration = %name, "authority put into the webhook configuration");
        Ok(())
    }

    fn serve(&mut self, material: Material) -> Result<(), KeepError> {
        if self.served.as_ref() == Some(&material) {
            return Ok(());
        }
        let config = material.server_config()?;
        tracing::info!(until = %material.until(), "certificate in use");
        self.config.send_replace(Some(config));
        self.served = Some(material);
        Ok(())
    }
}
