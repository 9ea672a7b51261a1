//! An OpenAI-compatible endpoint: `POST <url>/embeddings`.
//!
//! <https://platform.openai.com/docs/api-reference/embeddings/create>; also what vLLM, Ollama,
//! llama.cpp and text-embeddings-inference serve.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::json;

use super::{Embedded, Embedder, Text};
use crate::config::Embedding;
use crate::error::{Error, ErrorKind, Result};
use crate::retry::steadily;
use crate::store::redact_url;

/// Longest answer taken: 2,048 vectors of 65,536 numbers would be longer, no model's are.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Longest wait that an endpoint which limits its rate is granted between two tries.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// A model behind an endpoint.
pub struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: String,
    place: String,
    settings: Embedding,
}

/// What came back.
struct Received {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

impl Http {
    /// The endpoint the settings name; nothing is sent yet.
    pub fn new(settings: &Embedding) -> Result<Self> {
        let url = settings.url.as_deref().unwrap_or_default();
        let place = redact_url(url);
        let uri = format!("{}/embeddings", url.trim_end_matches('/'));
        let parsed: Result<hyper::Uri, _> = uri.parse();
        if !parsed.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https"))) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("{place} is not the URL of an embedding endpoint"),
            )
            .advice("write it up to and with /v1, as in http://localhost:11434/v1"));
        }
        let tls = HttpsConnectorBuilder::new().with_native_roots().map_err(|error| {
            Error::new(ErrorKind::Config, "this machine's TLS roots cannot be read").because(error)
        })?;
        let connector = tls.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, uri, place, settings: settings.clone() })
    }

    async fn ask(&self, texts: &[Text]) -> Result<Vec<Vec<f32>>> {
        let input: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
        let body = json!({
            "model": self.settings.model, "input": input, "encoding_format": "float",
        });
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.uri)
            .header("content-type", "application/json");
        if let Some(key) = &self.settings.api_key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.body(Full::new(Bytes::from(body.to_string()))).map_err(|_| {
            Error::new(ErrorKind::Config, "the embedding key cannot be sent in a header")
        })?;
        let limit = Duration::from_millis(self.settings.timeout_ms.into());
        let answer = tokio::time::timeout(limit, self.send(request))
            .await
            .map_err(|_| self.away(&format!("within {} ms", limit.as_millis())))??;
        if !answer.status.is_success() {
            if let Some(wait) = answer.retry_after {
                tokio::time::sleep(wait.min(RETRY_AFTER_MAX)).await;
            }
            return Err(self.refused(answer.status, &answer.body));
        }
        self.read(&answer.body, texts.len())
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Received> {
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| self.away("at all").because(error))?;
        let status = response.status();
        // In seconds; the form with a date is not used by these services.
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.away("to the end").because(error))?;
        let retry_after = retry_after.map(Duration::from_secs);
        Ok(Received { status, retry_after, body: body.to_bytes() })
    }

    fn away(&self, how: &str) -> Error {
        Error::new(
            ErrorKind::StoreUnreachable,
            format!("the embedding endpoint {} does not answer {how}", self.place),
        )
        .advice("check embedding.url, and that the service runs; the outbox waits for it")
    }

    /// The answer's text is not shown: it may repeat what was sent.
    fn refused(&self, status: StatusCode, body: &[u8]) -> Error {
        let kind = match status.as_u16() {
            401 | 403 => ErrorKind::StoreDenied,
            408 | 429 => ErrorKind::Busy,
            500.. => ErrorKind::StoreUnreachable,
            _ => ErrorKind::StoreFailed,
        };
        tracing::debug!(bytes = body.len(), "the embedding endpoint answered {status}");
        Error::new(kind, format!("the embedding endpoint {} answered {status}", self.place)).advice(
            match kind {
                ErrorKind::StoreDenied => "set TOOLKIT_EMBEDDING_API_KEY",
                ErrorKind::StoreFailed => "check embedding.model, and that texts are not too long",
                _ => "it is overloaded or broken; the outbox waits for it",
            },
        )
    }

    fn read(&self, bytes: &[u8], texts: usize) -> Result<Vec<Vec<f32>>> {
        let wrong = |what: String| {
            Error::new(
                ErrorKind::StoreFailed,
                format!("the embedding endpoint {} answered with {what}", self.place),
            )
        };
        let answer: Answer = serde_json::from_slice(bytes)
            .map_err(|error| wrong("what is no list of vectors".to_owned()).because(error))?;
        let mut vectors = vec![None; texts];
        for item in answer.data {
            if item.embedding.len() != self.settings.dimension as usize {
                let numbers = item.embedding.len();
                return Err(wrong(format!(
                    "vectors of {numbers} numbers, not {}",
                    self.settings.dimension
                ))
                .advice(format!("set embedding.dimension to {numbers} and rebuild")));
            }
            if item.embedding.iter().any(|number| !number.is_finite()) {
                return Err(wrong("a vector that is not finite".to_owned()));
            }
            let slot = vectors.get_mut(item.index);
            *slot.ok_or_else(|| wrong("more vectors than texts".to_owned()))? =
                Some(item.embedding);
        }
        let found: Vec<Vec<f32>> = vectors.into_iter().flatten().collect();
        if found.len() != texts {
            return Err(wrong(format!("{} vectors for {texts} texts", found.len())));
        }
        Ok(found)
    }
}

#[async_trait]
impl Embedder for Http {
    fn name(&self) -> &str {
        &self.settings.model
    }

    fn dimension(&self) -> u32 {
        self.settings.dimension
    }

    async fn embed(&self, texts: &[Text]) -> Result<Vec<Embedded>> {
        let mut made = Vec::with_capacity(texts.len());
        for batch in texts.chunks(self.settings.batch as usize) {
            let vectors = steadily(|| self.ask(batch)).await?;
            let by = &self.settings.model;
            made.extend(vectors.into_iter().map(|vector| Embedded { vector, by: by.clone() }));
        }
        Ok(made)
    }
}
