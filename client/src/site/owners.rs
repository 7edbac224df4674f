//! What owners and operators ask of a site: namespaces, charters, tokens.

use waag_schema::Namespace;
use waag_schema::ledger::note::NOTE_BYTES_MAX;
use waag_schema::wire::artifact::Proof;
use waag_schema::wire::site::{CharterRequest, CharterView, NamespaceRequest, NamespaceView};
use waag_schema::wire::token::{TokenCreated, TokenRequest, TokenView};

use super::Site;
use crate::ask::Ask;
use crate::error::{ClientError, Result};

impl Site {
    /// Makes a token.
    ///
    /// # Errors
    /// When the caller's own token is no admin's, or the request breaks a rule.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<TokenCreated> {
        self.transport
            .json(Ask::post("/api/v1/tokens", request).once())
            .await
    }

    /// Lists the site's tokens.
    ///
    /// # Errors
    /// When the caller's own token is no admin's.
    pub async fn tokens(&self) -> Result<Vec<TokenView>> {
        self.transport.json(Ask::get("/api/v1/tokens")).await
    }

    /// Ends a token.
    ///
    /// # Errors
    /// When there is none of this id, or the caller's own token is no admin's.
    pub async fn revoke_token(&self, id: &str) -> Result<()> {
        let plain = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain {
            return Err(ClientError::Usage(format!(
                "`{}` is no token's id: 16 hex digits",
                id.escape_debug()
            )));
        }
        let ask = Ask::delete(format!("/api/v1/tokens/{id}"));
        self.transport.bytes(ask, NOTE_BYTES_MAX).await.map(drop)
    }

    /// Returns a namespace as the site shows it.
    ///
    /// # Errors
    /// When there is none that the caller may know of.
    pub async fn namespace(&self, name: &Namespace) -> Result<NamespaceView> {
        self.transport
            .json(Ask::get(format!("/api/v1/namespaces/{name}")))
            .await
    }

    /// Returns the charter that the site goes by, as it shows it.
    ///
    /// # Errors
    /// When it has none.
    pub async fn charter(&self) -> Result<CharterView> {
        self.transport.json(Ask::get("/api/v1/charter")).await
    }

    pub(crate) async fn adopt_charter(&self, request: &CharterRequest) -> Result<CharterView> {
        self.transport.json(Ask::post("/api/v1/charter", request)).await
    }

    pub(crate) async fn create_namespace(&self, request: &NamespaceRequest) -> Result<Proof> {
        self.transport
            .json(Ask::post("/api/v1/namespaces", request))
            .await
    }

    pub(crate) async fn rotate_namespace(
        &self,
        name: &Namespace,
        request: &NamespaceRequest,
    ) -> Result<Proof> {
        let path = format!("/api/v1/namespaces/{name}/rotation");
        self.transport.json(Ask::post(path, request)).await
    }

    pub(crate) async fn gate_namespace(&self, name: &Namespace, request: &NamespaceRequest) -> Result<Proof> {
        let path = format!("/api/v1/namespaces/{name}/gate");
        self.transport.json(Ask::post(path, request)).await
    }

    pub(crate) async fn share_namespace(
        &self,
        name: &Namespace,
        request: &NamespaceRequest,
    ) -> Result<Proof> {
        let path = format!("/api/v1/namespaces/{name}/access");
        self.transport.json(Ask::post(path, request)).await
    }
}
