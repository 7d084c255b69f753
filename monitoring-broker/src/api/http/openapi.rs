//! The OpenAPI document. In: what each route says about itself. Out: `GET /openapi.json`, the same bytes each time.
//! What holds for every route, such as the problems, is added here.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use utoipa::PartialSchema as _;
use utoipa::ToSchema as _;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, Ref, RefOr,
    ResponseBuilder,
};

use super::problem::Problem;

/// The name of the token among the security schemes.
const TOKEN: &str = "token";

/// The statuses with which any route of the API may refuse, and when.
const PROBLEMS: &[(&str, &str)] = &[
    ("400", "A parameter or the body is wrong"),
    ("401", "A token is needed, and missing or wrong"),
    (
        "403",
        "A client certificate is needed, or publishing is not allowed",
    ),
    ("404", "There is no such device or path"),
    ("405", "The path does not have this method"),
    ("414", "The URL is longer than 64 KiB"),
    (
        "429",
        "Too many streams or commands; `Retry-After` says when to ask again",
    ),
    ("500", "The store cannot be read"),
    (
        "503",
        "The process is being stopped, or no MQTT server is connected",
    ),
];

/// Those of a command besides.
const COMMAND_PROBLEMS: &[(&str, &str)] = &[
    ("413", "The body is larger than 1 MiB"),
    ("415", "The body is not of the type application/json"),
    ("502", "The MQTT server refused it"),
    (
        "504",
        "Neither the MQTT server nor the device answered in time",
    ),
];

/// Routes without a function of their own here: path, type of the answer, what it is, whether it may be 503.
const PLAIN: &[(&str, &str, &str, bool)] = &[
    ("/livez", "text/plain", "The process serves", false),
    ("/metrics", "application/openmetrics-text", "Metrics", false),
    ("/openapi.json", "application/json", "This document", false),
    (
        "/readyz",
        "application/json",
        "All conditions hold; each with its reason",
        true,
    ),
];

/// What the document begins with.
pub(super) fn head() -> OpenApi {
    let info = InfoBuilder::new()
        .title("akri-mqtt monitoring broker")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Live data, history and presence of the devices of one monitoring broker. Where a token is asked for, it is \
             sent as `Authorization: Bearer <token>`.",
        ))
        .license(Some(License::new("MIT OR Apache-2.0")))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// Adds the problems, the token and the routes without data.
pub(super) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let [get, post] = [&mut item.get, &mut item.post];
        for operation in [get, post].into_iter().flatten() {
            for (status, when) in PROBLEMS {
                operation
                    .responses
                    .responses
                    .insert((*status).to_owned(), problem(when));
            }
            operation.security = Some(vec![
                SecurityRequirement::default(),
                SecurityRequirement::new::<_, _, String>(TOKEN, []),
            ]);
        }
        for operation in item.post.iter_mut() {
            for (status, when) in COMMAND_PROBLEMS {
                operation
                    .responses
                    .responses
                    .insert((*status).to_owned(), problem(when));
            }
        }
    }
    for (path, kind, what, may_be_unready) in PLAIN {
        let answer = |text: &str| {
            ResponseBuilder::new()
                .description(text)
                .content(*kind, ContentBuilder::new().build())
                .build()
        };
        let mut operation = OperationBuilder::new()
            .summary(Some(*what))
            .tag("process")
            .response("200", answer(what));
        if *may_be_unready {
            operation = operation.response("503", answer("A condition does not hold"));
        }
        let item = PathItem::new(HttpMethod::Get, operation.build());
        document.paths.paths.insert((*path).to_owned(), item);
    }
    let components = document.components.get_or_insert_with(Components::new);
    let schemas = &mut components.schemas;
    schemas.insert(Problem::name().into_owned(), Problem::schema());
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme(TOKEN, scheme);
}

fn problem(when: &str) -> RefOr<utoipa::openapi::Response> {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new()
        .description(when)
        .content("application/problem+json", content);
    response.build().into()
}

/// `/openapi.json`.
pub(super) fn router<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    let text = text(document);
    let answer = move || {
        let text = text.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], text) }
    };
    Router::new().route("/openapi.json", get(answer))
}

/// The document with its keys in order.
pub(super) fn text(document: &OpenApi) -> String {
    // By way of a value, whose maps are sorted. Only keys that are no texts fail, and there are none.
    let value = serde_json::to_value(document).unwrap_or_default();
    let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
    text.push('\n');
    text
}
