//! A browser driven over WebDriver: Debian's Chromium and its driver.
//!
//! WebDriver is a few JSON requests, so no crate is used for it. Without a browser, tests print a message and pass.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Client, PATIENCE};

/// The key that identifies an element in WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// How long the driver may take for a command, which includes the start of the browser.
const COMMAND: Duration = Duration::from_secs(180);
/// How long a script may take, in milliseconds.
const SCRIPT: u64 = 120_000;

/// A browser window with its own profile. Closed when dropped.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    client: Client,
    /// Dropped after the browser.
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser, or prints that there is none.
    pub async fn start() -> Option<Browser> {
        let found =
            |name: &str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
        let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| found(name))
        else {
            return skipped("there is no Chromium");
        };
        if !found("chromedriver") {
            return skipped("there is no chromedriver");
        }
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver can be run");
        let port = port(driver.stdout.take().expect("standard output is piped"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let client = Client::default();
        let mut browser = Browser { driver, address, session: String::new(), client, _profile: profile };
        let options = browser.options(chromium);
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options, "timeouts": {"script": SCRIPT}});
        let wanted = json!({"capabilities": {"alwaysMatch": wanted}});
        let session = browser.send("POST", "/session", &wanted).await.expect("a session");
        browser.session = session["sessionId"].as_str().expect("the session has an id").to_owned();
        Some(browser)
    }

    fn options(&self, chromium: &str) -> Value {
        let profile = format!("--user-data-dir={}", self._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1280,900",
            profile.as_str(),
        ];
        let binary = which(chromium);
        json!({"binary": binary, "args": arguments})
    }

    /// Loads a page.
    pub async fn open(&self, url: &str) {
        self.command("POST", "/url", json!({ "url": url })).await;
    }

    /// The URL of the current page.
    pub async fn url(&self) -> String {
        self.command("GET", "/url", Value::Null).await.as_str().unwrap_or_default().to_owned()
    }

    /// Runs a function body in the page and returns its result.
    pub async fn script(&self, body: &str) -> Value {
        self.command("POST", "/execute/sync", json!({"script": body, "args": []})).await
    }

    async fn try_script(&self, body: &str) -> Result<Value, String> {
        let path = format!("/session/{}/execute/sync", self.session);
        self.send("POST", &path, &json!({"script": body, "args": []})).await
    }

    /// Runs a function body that calls its last argument when it is done.
    pub async fn script_async(&self, body: &str) -> Value {
        self.command("POST", "/execute/async", json!({"script": body, "args": []})).await
    }

    /// Waits until the page is loaded and a function body returns a truthy value, and returns it.
    pub async fn wait_for(&self, body: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let loaded = format!("return document.readyState === 'complete' && (() => {{ {body} }})()");
        loop {
            // A script that is interrupted by a navigation fails.
            let value = self.try_script(&loaded).await;
            if let Ok(value) = &value
                && !matches!(value, Value::Null | Value::Bool(false))
                && value != ""
            {
                return value.clone();
            }
            if Instant::now() > deadline {
                let shown = self.script("return document.body?.innerText").await;
                let (url, shown) = (self.url().await, shown.as_str().unwrap_or_default().to_owned());
                panic!("`{body}` never came true at {url} ({value:?}):\n{shown}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for an element and returns its text.
    pub async fn text(&self, selector: &str) -> String {
        let text = self.wait_for(&format!("return document.querySelector({})?.innerText", json!(selector))).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an element has a text that contains `part`, and returns the text.
    pub async fn text_with(&self, selector: &str, part: &str) -> String {
        let (selector, part) = (json!(selector), json!(part));
        let body = format!(
            "const text = document.querySelector({selector})?.innerText; return text?.includes({part}) && text"
        );
        self.wait_for(&body).await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits for an element and clicks it as a user does: it must be visible and not covered.
    pub async fn click(&self, selector: &str) {
        self.act(selector, "click", json!({})).await;
    }

    /// Waits for an element and types into it.
    pub async fn fill(&self, selector: &str, text: &str) {
        self.act(selector, "value", json!({ "text": text })).await;
    }

    /// Waits for an element and sends a command to it. Repeats that if the page replaces the element or moves it
    /// meanwhile; a command that fails has had no effect.
    async fn act(&self, selector: &str, command: &str, body: Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.wait_for(&format!("return document.querySelector({}) !== null", json!(selector))).await;
            match self.try_act(selector, command, &body).await {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < deadline, "{command} {selector}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn try_act(&self, selector: &str, command: &str, body: &Value) -> Result<Value, String> {
        let session = format!("/session/{}", self.session);
        let wanted = json!({"using": "css selector", "value": selector});
        let found = self.send("POST", &format!("{session}/element"), &wanted).await?;
        let element = found[ELEMENT].as_str().unwrap_or_default();
        self.send("POST", &format!("{session}/element/{element}/{command}"), body).await
    }

    /// Presses keys in the focused element.
    pub async fn press(&self, keys: &str) {
        let actions: Vec<_> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()})))
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.command("POST", "/actions", actions).await;
    }

    /// Sets whether the browser prefers a dark colour scheme.
    pub async fn prefer_dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Sets the size of the window.
    pub async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Blocks URLs that match a pattern such as `*/console.js`.
    pub async fn block(&self, pattern: &str) {
        self.devtools("Network.enable", json!({})).await;
        self.devtools("Network.setBlockedURLs", json!({ "urls": [pattern] })).await;
    }

    /// A screenshot of the window as PNG.
    pub async fn screenshot(&self, path: &Path) {
        let arguments = json!({"cmd": "Page.captureScreenshot", "params": {"format": "png"}});
        let picture = self.command("POST", "/goog/cdp/execute", arguments).await;
        let encoded = picture["data"].as_str().expect("a picture");
        std::fs::write(path, base64(encoded)).expect("the picture can be written");
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        self.command("POST", "/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await;
    }

    /// Sends a command to this window. Panics with the driver's message if it fails.
    async fn command(&self, method: &str, path: &str, body: Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        let answer = self.send(method, &path, &body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path} {body}: {error}"))
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let request = self.client.request(method, self.address, path).untraced().patience(COMMAND);
        let request = if body.is_null() { request } else { request.body(body.to_string()) };
        let answer = request.header("content-type", "application/json").send().await;
        let value = answer.json()["value"].clone();
        match answer.status.is_success() {
            true => Ok(value),
            false => Err(value["message"].as_str().unwrap_or("no message").to_owned()),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes its browser only on request.
        let close = format!("DELETE /session/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", self.session);
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            stream.set_read_timeout(Some(Duration::from_secs(10))).ok();
            stream.write_all(close.as_bytes()).ok();
            let _ = stream.read(&mut [0; 64]);
        }
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

fn skipped(why: &str) -> Option<Browser> {
    println!("skipped: {why}");
    None
}

/// The port from the driver's output. The rest of the output is read and discarded.
fn port(stdout: impl Read + Send + 'static) -> u16 {
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let port = lines.find_map(|line| {
        let (_, rest) = line.split_once("successfully on port ")?;
        rest.trim_end_matches('.').parse().ok()
    });
    std::thread::spawn(move || lines.for_each(drop));
    port.expect("chromedriver says where it listens")
}

/// The executable of the browser, which the driver requires.
fn which(name: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.map_or_else(|| name.to_owned(), |file| file.display().to_string())
}

/// Decodes base64 as the driver encodes it.
fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<_> = text.bytes().filter(|byte| *byte != b'=').map(digit).collect();
    let bytes = |chunk: &[u8]| {
        let number = chunk.iter().fold(0_u32, |number, digit| number << 6 | u32::from(*digit));
        let number = number << (6 * (4 - chunk.len()));
        number.to_be_bytes()[1..chunk.len()].to_vec()
    };
    digits.chunks(4).flat_map(bytes).collect()
}
