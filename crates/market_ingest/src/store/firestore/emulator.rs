//! What a client shows the emulator in place of credentials.

use ::firestore::gcloud_sdk::HeaderMap;
use ::firestore::gcloud_sdk::tonic::codegen::http::{Extensions, HeaderValue, header};
use google_cloud_auth::credentials::{CacheableResource, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;

/// The emulator's own token: past all rules, and without it no batch is accepted.
#[derive(Debug, Default)]
pub(super) struct Owner {
    tag: EntityTag,
}

impl CredentialsProvider for Owner {
    async fn headers(
        &self,
        extensions: Extensions,
    ) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        if extensions.get::<EntityTag>() == Some(&self.tag) {
            return Ok(CacheableResource::NotModified);
        }
        let headers = [(header::AUTHORIZATION, HeaderValue::from_static("Bearer owner"))];
        Ok(CacheableResource::New { entity_tag: self.tag.clone(), data: headers.into_iter().collect() })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}
