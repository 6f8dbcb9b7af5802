//! The description of everything that is served, OpenAPI 3.1, made from the routes and the types themselves.
//!
//! A [`Route`] is served and described from the same value, so neither can be without the other.

use axum::Json;
use axum::extract::State;
use axum::routing::{MethodRouter, get};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::Shown;
use super::problem::{self, ProblemBody};

/// One operation: where it is, who serves it, what it is.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) method: &'static str,
    pub(super) serve: MethodRouter<Shown>,
    operation: Operation,
}

/// What an operation takes and answers.
pub(super) struct Operation {
    id: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<SchemaOf>,
    answers: Vec<(u16, &'static str, Option<Content>)>,
    writes: bool,
}

enum Content {
    Json(SchemaOf),
    Other(&'static str, Value),
}

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

impl Route {
    pub(super) fn get(path: &'static str, serve: MethodRouter<Shown>, operation: Operation) -> Self {
        Self { path, method: "get", serve, operation }
    }

    pub(super) fn post(path: &'static str, serve: MethodRouter<Shown>, mut operation: Operation) -> Self {
        operation.writes = true;
        Self { path, method: "post", serve, operation }
    }
}

impl Operation {
    /// An operation without parameters, body and answers yet.
    pub(super) fn new(id: &'static str, summary: &'static str) -> Self {
        Self { id, summary, parameters: Vec::new(), body: None, answers: Vec::new(), writes: false }
    }

    /// A parameter of the query.
    pub(super) fn query(mut self, name: &str, required: bool, description: &str, schema: Value) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "query", "required": required, "description": description, "schema": schema,
        }));
        self.problem(400, "A parameter is wrong: which, and what is accepted.")
    }

    /// The job's name in the path.
    pub(super) fn job(mut self) -> Self {
        self.parameters.push(json!({
            "name": "name", "in": "path", "required": true, "description": "The job, in any letter case.",
            "schema": { "type": "string" },
        }));
        self.problem(404, "There is no such job; the detail lists those that there are.")
    }

    /// The JSON object that it takes; it may be left out.
    pub(super) fn body<T: JsonSchema>(mut self) -> Self {
        self.body = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// An answer in JSON.
    pub(super) fn answer<T: JsonSchema>(mut self, status: u16, description: &'static str) -> Self {
        let schema = SchemaGenerator::subschema_for::<T>;
        self.answers.push((status, description, Some(Content::Json(schema))));
        self
    }

    /// An answer in text of another content type.
    pub(super) fn text(self, content_type: &'static str, description: &'static str) -> Self {
        self.other(content_type, description, json!({ "type": "string" }))
    }

    /// An answer in another content type, of which this is the schema.
    pub(super) fn other(
        mut self,
        content_type: &'static str,
        description: &'static str,
        schema: Value,
    ) -> Self {
        self.answers.push((200, description, Some(Content::Other(content_type, schema))));
        self
    }

    /// An error.
    pub(super) fn problem(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push((status, description, None));
        self
    }

    fn describe(&self, answers: &mut SchemaGenerator, bodies: &mut SchemaGenerator, token: bool) -> Value {
        let mut operation = json!({ "operationId": self.id, "summary": self.summary });
        if !self.parameters.is_empty() {
            operation["parameters"] = json!(self.parameters);
        }
        if let Some(body) = self.body {
            operation["requestBody"] =
                json!({ "required": false, "content": { "application/json": { "schema": body(bodies) } } });
        }
        if self.writes && token {
            operation["security"] = json!([{ "token": [] }]);
        }
        let mut described = Map::new();
        for (status, description, content) in &self.answers {
            let content = match content {
                Some(Content::Json(schema)) => json!({ "application/json": { "schema": schema(answers) } }),
                Some(Content::Other(kind, schema)) => json!({ *kind: { "schema": schema } }),
                None => {
                    json!({ problem::CONTENT_TYPE: { "schema": answers.subschema_for::<ProblemBody>() } })
                }
            };
            described.insert(status.to_string(), json!({ "description": description, "content": content }));
        }
        operation["responses"] = Value::Object(described);
        operation
    }
}

pub(super) fn routes() -> Vec<Route> {
    let operation = Operation::new("openapi", "This description.")
        .answer::<Map<String, Value>>(200, "An OpenAPI 3.1 document.");
    vec![Route::get("/api/v1/openapi.json", get(description), operation)]
}

async fn description(State(shown): State<Shown>) -> Json<Value> {
    Json(describe(&super::routes(), shown.access.needs_token()))
}

/// The OpenAPI document of these routes, where writes need a token or not.
fn describe(routes: &[Route], token: bool) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
    });
    let mut bodies = settings.clone().for_deserialize().into_generator();
    let mut answers = settings.for_serialize().into_generator();
    let mut paths = Map::new();
    for route in routes {
        let operation = route.operation.describe(&mut answers, &mut bodies, token);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation;
    }
    let mut schemas = answers.take_definitions(true);
    schemas.extend(bodies.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "market-ingest",
            "description": "State and soft kill switch of a market-data producer.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "INGEST_ADMIN_TOKEN" },
            },
        },
    })
}
