//! Debian's Chromium, driven by WebDriver (W3C) with chromedriver.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use xtask::exec::KillOnDrop;

const PORT: u16 = 9515;
/// A page that is slower than this is broken.
const PATIENCE: Duration = Duration::from_secs(30);
/// The key that names an element (WebDriver §11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One window without a screen. Its calls must come from a thread in the driver's namespace.
pub struct Browser {
    session: String,
    chromium: Pid,
    _driver: KillOnDrop,
}

impl Browser {
    /// Starts the driver in the namespace of this thread.
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver");
        driver
            .arg(format!("--port={PORT}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let driver = super::start(&mut driver);
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", PORT)).is_err() {
            assert!(Instant::now() < end, "chromedriver does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": "/usr/bin/chromium", "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = call("POST", "/session", Some(&capabilities));
        Self {
            chromium: Pid::from_raw(session["capabilities"]["goog:processID"].as_i64().unwrap() as i32),
            session: session["sessionId"].as_str().unwrap().to_owned(),
            _driver: driver,
        }
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        call(method, &format!("/session/{}{path}", self.session), body)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", path, Some(body))
    }

    pub fn open(&self, address: &str) {
        self.post("/url", &json!({"url": address}));
    }

    /// The value of a script's `return`.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until the script returns something true, and returns it.
    pub fn until(&self, script: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let value = self.run(script);
            let is_true = !matches!(value, Value::Null | Value::Bool(false)) && value != json!(0) && value != json!("");
            if is_true {
                return value;
            }
            let page = self.run("return document.body.innerText");
            assert!(
                Instant::now() < end,
                "never true: {script}\n{page}\n{:?}",
                self.complaints()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What an element shows.
    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({})?.innerText", json!(selector));
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Presses keys where the focus is.
    pub fn press(&self, keys: &str) {
        let keys: Vec<_> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})))
            .collect();
        self.post(
            "/actions",
            &json!({"actions": [{"type": "key", "id": "keys", "actions": keys}]}),
        );
    }

    fn element(&self, selector: &str) -> String {
        let element = self.post("/element", &json!({"using": "css selector", "value": selector}));
        element[ELEMENT].as_str().unwrap().to_owned()
    }

    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// Clicks so many pixels right of, and below, the middle of an element.
    pub fn click_beside(&self, selector: &str, right: i32, below: i32) {
        self.run(&format!(
            "document.querySelector({}).scrollIntoView({{ block: 'center' }})",
            json!(selector)
        ));
        let origin = json!({ELEMENT: self.element(selector)});
        let actions = json!([
            {"type": "pointerMove", "origin": origin, "x": right, "y": below},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]);
        let pointer =
            json!({"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions});
        self.post("/actions", &json!({"actions": [pointer]}));
    }

    /// Width and height of the page in pixels of CSS.
    pub fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// `light` or `dark`.
    pub fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// A picture of the whole page.
    pub fn picture(&self, file: &Path) {
        let shot = self.devtools("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        write(file, &shot["data"]);
    }

    /// As it is printed, in PDF.
    pub fn print(&self, file: &Path) {
        write(file, &self.post("/print", &json!({"background": false})));
    }

    /// What the browser has complained about since the last call: failed requests, errors, violations of the policy.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({"type": "browser"}));
        let entries = log.as_array().unwrap().iter();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        severe
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It would outlive its driver.
        let _ = kill(self.chromium, Signal::SIGTERM);
    }
}

fn write(file: &Path, encoded: &Value) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, BASE64_STANDARD.decode(encoded.as_str().unwrap()).unwrap()).unwrap();
}

fn call(method: &str, path: &str, body: Option<&Value>) -> Value {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).unwrap();
    stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    // The driver keeps the connection open.
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{path}: {head}");
    }
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map(|(_, length)| length.trim().parse().unwrap()).next().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut reply: Value = serde_json::from_slice(&body).unwrap();
    assert!(head.contains(" 200 "), "{path}: {reply:#}");
    reply["value"].take()
}
