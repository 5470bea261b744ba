//! Custom hosts: a caller may say where its provider lives, and must not make us knock on doors inside (protocol §2.9).
//!
//! The text is read by rules stricter than those of a browser, so that nothing has two readings: whatever `fetch` would
//! quietly repair (back slashes, tabs, `http:host`, addresses in hex, octal or one number, escapes in the host) is refused,
//! and what passes is rebuilt from its checked parts. Then the host is judged. A host on the deployment's trusted list
//! skips that judgement, but for one: our own host is a loop whoever asks.
//!
//! What this cannot see: a public name that resolves to a private address. The platform's resolver stands there.

use super::Policy;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A base URL that may be called: `https://host[:port][/path]`, without a trailing slash, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Reads and judges; the error says why not, for the caller.
    pub fn parse(text: &str, policy: &Policy) -> Result<BaseUrl, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("it is longer than {MAX_LENGTH} bytes"));
        }
        if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic() || REFUSED_CHARACTERS.contains(*c)) {
            return Err(format!("it may not hold {odd:?}"));
        }
        let (scheme, rest) = text.split_once("://").ok_or("it must begin with https:// or http://")?;
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "https" => ("https", 443),
            "http" => ("http", 80),
            _ => return Err("only https:// and http:// are possible".into()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let Place { host, port } = Place::read(authority)?;
        let is = |listed: &str| Place::read(listed.trim()).is_ok_and(|it| it.covers(&host, port.unwrap_or(default_port)));
        if is(policy.own_host) {
            return Err("it is this gateway itself".into());
        }
        if !policy.trusted_hosts.iter().any(|trusted| is(trusted)) {
            host.judge()?;
            if port.is_some_and(|port| SERVICE_PORTS.contains(&port)) {
                return Err("that port belongs to another kind of service".into());
            }
        }
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Ok(BaseUrl(format!("{scheme}://{host}{port}{}", path.trim_end_matches('/'))))
    }

    /// The URL of an endpoint (`/chat/completions`) below it.
    pub fn join(&self, endpoint: &str) -> String {
        [self.0.as_str(), endpoint].concat()
    }

    /// The text, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `host` or `host:port`.
struct Place {
    host: Host,
    port: Option<u16>,
}

#[derive(PartialEq, Eq)]
enum Host {
    /// Lower case.
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Place {
    /// Reads what stands between `//` and the path. An IPv6 address alone needs no brackets, for the trusted list's sake.
    fn read(text: &str) -> Result<Place, String> {
        if let Ok(address) = text.parse() {
            return Ok(Place { host: Host::V6(address), port: None });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(inner) => {
                let (address, after) = inner.split_once(']').ok_or("its IPv6 address is not closed")?;
                let address = address.parse().map_err(|_| "its IPv6 address cannot be read")?;
                let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or("its port cannot be read")?) };
                (Host::V6(address), port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (Host::read(host)?, Some(port)),
                None => (Host::read(text)?, None),
            },
        };
        Ok(Place { host, port: port.map(read_port).transpose()? })
    }

    fn covers(&self, host: &Host, port: u16) -> bool {
        self.host == *host && self.port.is_none_or(|own| own == port)
    }
}

impl Host {
    fn read(text: &str) -> Result<Host, String> {
        let name = text.to_ascii_lowercase();
        if name.bytes().any(|byte| !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-')) {
            return Err("its host may hold letters, digits, dots and dashes only".into());
        }
        if name.len() > MAX_NAME || name.split('.').any(|label| label.is_empty() || label.len() > MAX_LABEL) {
            return Err("its host has an empty or overlong part".into());
        }
        if name.split('.').count() > MAX_LABELS {
            return Err(format!("its host has more than {MAX_LABELS} parts"));
        }
        // The Fetch standard takes every host whose last part is a number, hex included, for an IPv4 address.
        if name.rsplit('.').next().is_some_and(is_number) {
            return name.parse().map(Host::V4).map_err(|_| "an IP address must be written as four decimal numbers".into());
        }
        Ok(Host::Name(name))
    }

    fn judge(&self) -> Result<(), String> {
        match self {
            Host::Name(name) => judge_name(name),
            Host::V4(it) if PRIVATE_V4.iter().any(|(net, bits)| (it.to_bits() ^ net.to_bits()) >> (32 - bits) == 0) => {
                Err("it is a private or reserved address".into())
            }
            Host::V6(it) if PRIVATE_V6.iter().any(|(net, bits)| (it.to_bits() ^ net) >> (128 - bits) == 0) => {
                Err("it is a private or reserved address".into())
            }
            Host::V4(_) | Host::V6(_) => Ok(()),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::V4(address) => address.fmt(f),
            Host::V6(address) => write!(f, "[{address}]"),
        }
    }
}

fn judge_name(name: &str) -> Result<(), String> {
    let tld = name.rsplit('.').next().unwrap_or(name);
    let below = |domain: &&str| name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let refusal = if METADATA_HOSTS.contains(&name) {
        "it is a metadata service"
    } else if PRIVATE_TLDS.contains(&tld) {
        "its domain is a private one"
    } else if !name.contains('.') {
        "a name without a dot is a private one"
    } else if name.contains(VENDOR_HOST) {
        "it is another gateway"
    } else if name.split('.').any(|label| label.starts_with("xn--")) {
        "an international name (punycode) can look like another one"
    } else if WILDCARD_DNS.iter().any(below) {
        "its domain resolves to whatever address it names"
    } else {
        return Ok(());
    };
    Err(refusal.into())
}

fn read_port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or_else(|| "its port must be a number from 1 to 65535".into())
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || label.bytes().all(|byte| byte.is_ascii_digit())
}

/// White space, controls and everything beyond ASCII are refused too.
const REFUSED_CHARACTERS: &str = "\"#<>?@\\^`{|}";

const MAX_LENGTH: usize = 2_048;
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
const MAX_LABELS: usize = 10;

const METADATA_HOSTS: [&str; 4] = ["instance-data", "metadata", "metadata.azure.com", "metadata.google.internal"];

const PRIVATE_TLDS: [&str; 11] =
    ["corp", "home", "internal", "intranet", "invalid", "lan", "local", "localdomain", "localhost", "onion", "test"];

/// The vendor whose protocol we speak: its gateway behind ours would only fail in confusing ways.
const VENDOR_HOST: &str = "api.portkey";

/// `10.0.0.1.nip.io` is `10.0.0.1`, and `lvh.me` is `127.0.0.1`.
const WILDCARD_DNS: [&str; 8] =
    ["backname.io", "lacolhost.com", "localtest.me", "lvh.me", "nip.io", "sslip.io", "vcap.me", "xip.io"];

/// Network and length of its prefix.
const PRIVATE_V4: [(Ipv4Addr, u32); 11] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Network and length of its prefix. Those that carry an IPv4 address are refused whatever it is.
const PRIVATE_V6: [(u128, u32); 10] = [
    (0, 96),                      // unspecified, loopback, IPv4-compatible
    (0xffff << 32, 96),           // ::ffff:0:0, IPv4-mapped
    (0x0064_ff9b << 96, 96),      // 64:ff9b::, IPv4 behind NAT64
    (0x0064_ff9b_0001 << 80, 48), // 64:ff9b:1::, the same, local
    (0x2001_0000 << 96, 32),      // Teredo
    (0x2002 << 112, 16),          // 6to4
    (0xfc00 << 112, 7),           // unique local
    (0xfe80 << 112, 10),          // link local
    (0xfec0 << 112, 10),          // site local
    (0xff00 << 112, 8),           // multicast
];

/// Shells, mail, name services, file shares, databases, container and cluster control.
const SERVICE_PORTS: [u16; 38] = [
    7, 9, 19, 20, 21, 22, 23, 25, 53, 69, 110, 111, 135, 137, 139, 143, 161, 389, 445, 465, 587, 636, 993, 995, 1433, 1521, 2049,
    2375, 2376, 2379, 2380, 3306, 3389, 5432, 5900, 6379, 11211, 27017,
];

#[cfg(test)]
mod tests;
