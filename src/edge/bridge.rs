//! The Rust face of `bridge.js`: declarations only.

use js_sys::{Array, Object, Promise, Uint8Array};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/src/edge/bridge.js")]
extern "C" {
    #[wasm_bindgen(js_name = requestHead)]
    pub fn request_head(request: &web_sys::Request) -> String;
    #[wasm_bindgen(js_name = readBody)]
    pub fn read_body(request: &web_sys::Request, limit: f64, announced: bool) -> Promise;
    #[wasm_bindgen(js_name = textBindings)]
    pub fn text_bindings(env: &JsValue) -> String;
    pub fn respond(status: u16, ours: &str, upstream: &JsValue, body: &JsValue) -> web_sys::Response;

    pub fn exchange(
        url: &str,
        method: &str,
        headers: &str,
        body: &Uint8Array,
        timeout: f64,
        signal: &JsValue,
        script: Option<String>,
    ) -> Promise;
    pub fn wait(ms: f64) -> Promise;
    pub fn discard(upstream: &JsValue);

    /// What `exchange` resolves to.
    pub type Exchange;
    #[wasm_bindgen(method, getter)]
    pub fn kind(this: &Exchange) -> u8;
    #[wasm_bindgen(method, getter)]
    pub fn status(this: &Exchange) -> u16;
    #[wasm_bindgen(method, getter)]
    pub fn head(this: &Exchange) -> String;
    #[wasm_bindgen(method, getter)]
    pub fn at(this: &Exchange) -> f64;
    #[wasm_bindgen(method, getter)]
    pub fn message(this: &Exchange) -> String;
    #[wasm_bindgen(method, getter)]
    pub fn buffer(this: &Exchange) -> JsValue;
    #[wasm_bindgen(method, setter)]
    pub fn set_stream(this: &Exchange, stream: &JsValue);

    pub fn pass(
        env: &JsValue,
        ctx: &JsValue,
        upstream: &JsValue,
        signal: &JsValue,
        idle: f64,
        terminator: &str,
        last_words: &Uint8Array,
        guard: &str,
        push: &JsValue,
    ) -> Passing;

    /// A stream on its way.
    pub type Passing;
    #[wasm_bindgen(method, getter)]
    pub fn passed(this: &Passing) -> Promise;
    #[wasm_bindgen(method, getter)]
    pub fn readable(this: &Passing) -> JsValue;
    #[wasm_bindgen(method)]
    pub fn bytes(this: &Passing) -> Uint8Array;
    #[wasm_bindgen(method, getter)]
    pub fn total(this: &Passing) -> f64;
    #[wasm_bindgen(method, getter)]
    pub fn end(this: &Passing) -> u8;
    #[wasm_bindgen(method, getter)]
    pub fn first(this: &Passing) -> f64;
    #[wasm_bindgen(method, getter)]
    pub fn ended(this: &Passing) -> f64;
    #[wasm_bindgen(method)]
    pub fn claim(this: &Passing) -> bool;
    #[wasm_bindgen(method)]
    pub fn close(this: &Passing, last_words: &JsValue) -> Promise;

    pub fn install(door: &JsValue);
    pub fn drive(id: u32, first: &Promise) -> JsValue;
    pub fn serve(ctx: &JsValue, id: u32, first: &Promise) -> JsValue;

    pub fn commit(env: &JsValue, ctx: &JsValue, record: &str, bytes: u32);
    #[wasm_bindgen(js_name = onRefused)]
    pub fn on_refused(handler: &JsValue);

    #[wasm_bindgen(js_name = batchParts)]
    pub fn batch_parts(batch: &JsValue) -> Array;
    pub fn ack(batch: &JsValue, index: u32);
    pub fn retry(batch: &JsValue, index: u32, delay_seconds: u32);

    pub fn select(env: &JsValue, sql: &str, params: &Array) -> Promise;
    pub fn write(env: &JsValue, statements: &Array) -> Promise;
    #[wasm_bindgen(js_name = putObject)]
    pub fn put_object(env: &JsValue, key: &str, bytes: &Uint8Array) -> Promise;
    #[wasm_bindgen(js_name = getObject)]
    pub fn get_object(env: &JsValue, key: &str, offset: f64, length: f64) -> Promise;
}

/// The words of a JavaScript error.
pub fn words(error: &JsValue) -> String {
    let message = error.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    message.or_else(|| error.as_string()).unwrap_or_else(|| String::from(error.unchecked_ref::<Object>().to_string()))
}
