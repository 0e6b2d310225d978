//! One static library of everything that Debian does not package, behind C ABIs. wasmtime, SQLCipher and yyjson
//! bring their own; BLAKE3 and TOML get the few functions below (declared in include/native.h).
//!
//! Built with panic=abort: callers check sizes, and nothing here panics on any input.

pub use wasmtime_c_api::*;

// Referenced so that their objects enter the archive.
pub use libsqlite3_sys;
pub use yyjson_sys;

use std::{os::raw::c_char, slice, str};
use toml_edit::{DocumentMut, Item, Table, Value};

/// BLAKE3 of `len` bytes into 32 bytes at `out`.
#[no_mangle]
pub unsafe extern "C" fn cal_native_blake3(data: *const u8, len: usize, out: *mut u8) {
    let bytes = if len == 0 { &[][..] } else { slice::from_raw_parts(data, len) };
    slice::from_raw_parts_mut(out, 32).copy_from_slice(blake3::hash(bytes).as_bytes());
}

/// A string owned by this library; `ptr` is not NUL-terminated. Freed by `cal_native_text_free`.
#[repr(C)]
pub struct NativeText {
    ptr: *mut c_char,
    len: usize,
}

fn give(text: String) -> NativeText {
    let bytes = text.into_bytes().into_boxed_slice();
    let len = bytes.len();
    NativeText { ptr: Box::into_raw(bytes) as *mut c_char, len }
}

#[no_mangle]
pub unsafe extern "C" fn cal_native_text_free(text: NativeText) {
    if !text.ptr.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(text.ptr as *mut u8, text.len)));
    }
}

unsafe fn text<'a>(ptr: *const c_char, len: usize) -> Result<&'a str, String> {
    let bytes = if len == 0 { &[][..] } else { slice::from_raw_parts(ptr as *const u8, len) };
    str::from_utf8(bytes).map_err(|_| "the text is not UTF-8".to_owned())
}

fn json_string(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn json_map<'a>(items: impl Iterator<Item = (&'a str, &'a Item)>, out: &mut String) {
    out.push('{');
    let mut first = true;
    for (key, item) in items.filter(|(_, item)| !item.is_none()) {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        json_string(key, out);
        out.push(':');
        json_item(item, out);
    }
    out.push('}');
}

fn json_value(value: &Value, out: &mut String) {
    match value {
        Value::String(s) => json_string(s.value(), out),
        Value::Integer(i) => out.push_str(&i.value().to_string()),
        // JSON has no infinities; the reader of the configuration refuses null where a number belongs.
        Value::Float(f) if f.value().is_finite() => out.push_str(&format!("{:?}", f.value())),
        Value::Float(_) => out.push_str("null"),
        Value::Boolean(b) => out.push_str(if *b.value() { "true" } else { "false" }),
        Value::Datetime(d) => json_string(&d.value().to_string(), out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                json_value(item, out);
            }
            out.push(']');
        }
        Value::InlineTable(table) => {
            out.push('{');
            for (i, (key, item)) in table.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                json_string(key, out);
                out.push(':');
                json_value(item, out);
            }
            out.push('}');
        }
    }
}

fn json_item(item: &Item, out: &mut String) {
    match item {
        Item::None => out.push_str("null"),
        Item::Value(value) => json_value(value, out),
        Item::Table(table) => json_map(table.iter(), out),
        Item::ArrayOfTables(tables) => {
            out.push('[');
            for (i, table) in tables.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                json_map(table.iter(), out);
            }
            out.push(']');
        }
    }
}

fn to_json(toml: &str) -> Result<String, String> {
    let doc: DocumentMut = toml.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    let mut out = String::new();
    json_map(doc.iter(), &mut out);
    Ok(out)
}

fn set(toml: &str, path: &str, value: &str) -> Result<String, String> {
    let mut doc: DocumentMut = toml.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    let value: Value = value.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().filter(|k| !k.is_empty()).ok_or("the key is empty")?;
    let mut table: &mut dyn toml_edit::TableLike = doc.as_table_mut();
    for key in keys {
        if key.is_empty() {
            return Err(format!("`{path}` has an empty part"));
        }
        let mut fresh = Table::new();
        fresh.set_implicit(true);
        table = table
            .entry(key)
            .or_insert(Item::Table(fresh))
            .as_table_like_mut()
            .ok_or_else(|| format!("`{key}` in `{path}` is not a table"))?;
    }
    table.insert(last, Item::Value(value));
    Ok(doc.to_string())
}

unsafe fn answer(result: Result<String, String>, out: *mut NativeText) -> i32 {
    let (code, text) = match result {
        Ok(text) => (0, text),
        Err(text) => (-1, text),
    };
    out.write(give(text));
    code
}

/// TOML to JSON. 0 and the JSON in `out`, or -1 and the reason in `out`. The caller frees `out` in both cases.
#[no_mangle]
pub unsafe extern "C" fn cal_native_toml_to_json(toml: *const c_char, len: usize, out: *mut NativeText) -> i32 {
    answer(text(toml, len).and_then(to_json), out)
}

/// Sets the dotted key `path` to the TOML value `value`, keeping comments and order. 0 and the new text, or -1 and the reason.
#[no_mangle]
pub unsafe extern "C" fn cal_native_toml_set(
    toml: *const c_char,
    len: usize,
    path: *const c_char,
    path_len: usize,
    value: *const c_char,
    value_len: usize,
    out: *mut NativeText,
) -> i32 {
    let result = (|| set(text(toml, len)?, text(path, path_len)?, text(value, value_len)?))();
    answer(result, out)
}
