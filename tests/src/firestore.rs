//! Google's Firestore emulator as a process, and Google's Python client as the independent reader.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::child::Process;
use crate::{free_port, http, wait_for};

/// A running emulator with an empty database.
#[derive(Debug)]
pub struct Firestore {
    /// The process; signals may freeze or kill it.
    pub process: Process,
    port: u16,
}

/// The project that tests use.
pub const PROJECT: &str = "market-ingest-test";

impl Firestore {
    /// Starts the emulator; none when the run was told to go without, and then it says so.
    ///
    /// # Panics
    /// When it is not there, or does not come up.
    #[must_use]
    pub fn start() -> Option<Self> {
        if std::env::var_os("WITHOUT_EMULATORS").is_some() {
            eprintln!("LEFT OUT: the Firestore emulator (WITHOUT_EMULATORS is set)");
            return None;
        }
        Some(Self::start_on(free_port()))
    }

    /// Starts the emulator on a given port, such as that of one that was killed.
    ///
    /// # Panics
    /// When it is not there, or does not come up.
    #[must_use]
    pub fn start_on(port: u16) -> Self {
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-Duser.language=en", "-cp"]);
        command.arg(jar());
        command.arg("com.google.cloud.datastore.emulator.firestore.CloudFirestore");
        command.args(["--host=127.0.0.1", &format!("--port={port}")]);
        let mut process = Process::spawn(&mut command);
        wait_for("the Firestore emulator", Duration::from_secs(60), || {
            assert!(process.is_running(), "the emulator ended: {}", process.stderr());
            http::get(&format!("http://127.0.0.1:{port}/")).filter(|(status, _)| *status == 200)
        });
        Self { process, port }
    }

    /// `host:port`, for `FIRESTORE_EMULATOR_HOST`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A document's fields in REST form (`{"stringValue": …}`), none when it does not exist.
    ///
    /// # Panics
    /// When the emulator does not answer.
    #[must_use]
    pub fn document(&self, path: &str) -> Option<Value> {
        let (status, body) = http::get(&self.url(path)).expect("the emulator answers");
        (status == 200).then(|| serde_json::from_str(&body).expect("a document"))
    }

    /// Adds a text field to a document, as somebody else would.
    ///
    /// # Panics
    /// When the emulator refuses.
    pub fn patch(&self, path: &str, field: &str, text: &str) {
        let url = self.url(&format!("{path}?updateMask.fieldPaths={field}"));
        let body = serde_json::json!({"fields": {field: {"stringValue": text}}});
        let (status, body) = http::patch(&url, &body);
        assert_eq!(status, 200, "{body}");
    }

    /// Writes a document whole, from fields in REST form, as an operator's hand would.
    ///
    /// # Panics
    /// When the emulator refuses.
    pub fn put(&self, path: &str, fields: &Value) {
        let (status, body) = http::patch(&self.url(path), &serde_json::json!({ "fields": fields }));
        assert_eq!(status, 200, "{body}");
    }

    /// Deletes a document.
    ///
    /// # Panics
    /// When the emulator refuses.
    pub fn delete(&self, path: &str) {
        assert_eq!(http::delete(&self.url(path)), 200, "{path}");
    }

    /// Number of documents in a collection at the root, 300 at most.
    ///
    /// # Panics
    /// When the emulator does not answer.
    #[must_use]
    pub fn count(&self, collection: &str) -> usize {
        let list = http::get_json(&self.url(&format!("{collection}?pageSize=300")));
        list.expect("the emulator answers")["documents"].as_array().map_or(0, Vec::len)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v1/projects/{PROJECT}/databases/(default)/documents/{path}", self.host())
    }
}

/// Firestore's typed values (`{"stringValue": "x"}`) as plain JSON.
///
/// # Panics
/// On a type that no document of ours has.
#[must_use]
pub fn plain(fields: &Value) -> Value {
    let of = |value: &Value| {
        let (kind, value) = value.as_object().and_then(|o| o.iter().next()).expect("a typed value");
        match kind.as_str() {
            "integerValue" => {
                let text = value.as_str().expect("integers are text");
                Value::from(text.parse::<i64>().expect("an integer"))
            }
            "mapValue" => plain(&value["fields"]),
            "arrayValue" => value["values"].as_array().map_or(Value::Array(Vec::new()), |values| {
                let wrapped = values.iter().map(|v| plain(&serde_json::json!({ "v": v }))["v"].clone());
                wrapped.collect()
            }),
            "nullValue" => Value::Null,
            "stringValue" | "booleanValue" | "doubleValue" | "timestampValue" => value.clone(),
            other => panic!("unexpected type {other}"),
        }
    };
    let empty = serde_json::Map::new();
    let fields = fields.as_object().unwrap_or(&empty);
    fields.iter().map(|(name, value)| (name.clone(), of(value))).collect()
}

fn jar() -> PathBuf {
    let named = std::env::var_os("FIRESTORE_EMULATOR_JAR").map(PathBuf::from);
    named.or_else(from_gcloud).filter(|jar| jar.exists()).expect(
        "the Firestore emulator: install the Google Cloud CLI with its component \
         cloud-firestore-emulator, or run scripts/test --without-emulators",
    )
}

fn from_gcloud() -> Option<PathBuf> {
    let root = match std::env::var_os("CLOUDSDK_ROOT_DIR") {
        Some(root) => PathBuf::from(root),
        None => {
            let mut gcloud = Command::new("gcloud");
            let output = gcloud.args(["info", "--format=value(installation.sdk_root)"]).output().ok()?;
            PathBuf::from(String::from_utf8(output.stdout).ok()?.trim())
        }
    };
    Some(root.join("platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"))
}
