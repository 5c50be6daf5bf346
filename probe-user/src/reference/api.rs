//! The page about the API of an agent, from its OpenAPI document.

use serde_json::{Map, Value};

use crate::command::agent::site::openapi::document;
use crate::reference::markdown::{GENERATED, table};

/// What replies consist of, beside the records.
const SCHEMAS: [&str; 11] = [
    "Peers", "Peer", "OfPath", "Recent", "Status", "Windows", "Window", "Events", "AllHops", "OfHops", "Outliers",
];

pub(super) fn page() -> String {
    let document = document();
    let mut page = format!(
        "{GENERATED}\n\n# API\n\n`kstamp agent --listen` answers these requests in JSON. Objects with a `type` are \
         [records](json.md) as `--format jsonl` writes them; the objects `Window` have some of the fields of the record \
         `window`. A wrong parameter is refused with 400 and `{{\"error\": \"…\"}}`, in one line. The same in OpenAPI 3.1 is at \
         `/api/v1/openapi.json`.\n"
    );
    for (path, methods) in fields(&document["paths"]) {
        let get = &methods["get"];
        page += &format!("\n## GET {path}\n\n{}\n", text(&get["summary"]));
        let parameters = get["parameters"].as_array().into_iter().flatten();
        let rows: Vec<_> = parameters.map(parameter).collect();
        if !rows.is_empty() {
            page.push('\n');
            table(
                ["Parameter", "Value", "Default", "Meaning"],
                rows.into_iter(),
                &mut page,
            );
        }
    }
    let schemas = &document["components"]["schemas"];
    for name in SCHEMAS {
        page += &format!("\n## {name}\n\n");
        let rows = fields(&schemas[name]["properties"]);
        let rows = rows.map(|(name, schema)| {
            [
                format!("`{name}`"),
                kind(schema),
                text(&schema["description"]).to_owned(),
            ]
        });
        table(["Field", "Type", "Meaning"], rows, &mut page);
    }
    page
}

fn fields(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flat_map(Map::iter)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn parameter(parameter: &Value) -> [String; 4] {
    let schema = &parameter["schema"];
    let choices = schema["enum"].as_array().into_iter().flatten();
    let choices: Vec<_> = choices.map(|choice| format!("`{}`", text(choice))).collect();
    let values = match (choices.is_empty(), schema["maximum"].as_u64()) {
        (false, _) => choices.join(", "),
        (true, Some(maximum)) => format!("1 to {maximum}"),
        (true, None) if schema["format"] == "date-time" => "time (RFC 3339)".to_owned(),
        (true, None) => "address".to_owned(),
    };
    let default = match &schema["default"] {
        Value::Null if parameter["required"] == true => "must be given".to_owned(),
        Value::Null => String::new(),
        Value::String(default) => format!("`{default}`"),
        default => format!("`{default}`"),
    };
    [
        format!("`{}`", text(&parameter["name"])),
        values,
        default,
        text(&parameter["description"]).to_owned(),
    ]
}

/// The type of a field in words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    match &schema["type"] {
        Value::String(of) if of == "array" => match schema["items"]["prefixItems"].is_array() {
            true => "list of pairs".to_owned(),
            false => format!("list of {}", kind(&schema["items"])),
        },
        Value::String(of) if schema["format"] == "date-time" => format!("{of} (RFC 3339)"),
        Value::String(of) => of.clone(),
        Value::Array(of) => of.iter().map(text).collect::<Vec<_>>().join(" or "),
        _ => format!("`{}`", text(&schema["const"])),
    }
}
