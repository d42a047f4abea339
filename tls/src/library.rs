//! OpenSSL, as much of it as a channel needs. Its own bindings do everything but TLS 1.3's external keys.
use super::{Failed, Psk, Read, Suite, wire::Wire};
use foreign_types::ForeignTypeRef;
use openssl::{
    error::ErrorStack,
    ex_data::Index,
    ssl::{
        ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef, SslSessionCacheMode, SslStream,
        SslVersion,
    },
};
use openssl_sys::{EVP_MD, SSL, SSL_CIPHER, SSL_SESSION, SSL_SESSION_free};
use std::{
    ffi::{c_int, c_uchar},
    ptr,
    sync::OnceLock,
};

type FindSession = unsafe extern "C" fn(*mut SSL, *const c_uchar, usize, *mut *mut SSL_SESSION) -> c_int;
type UseSession =
    unsafe extern "C" fn(*mut SSL, *const EVP_MD, *mut *const c_uchar, *mut usize, *mut *mut SSL_SESSION) -> c_int;

unsafe extern "C" {
    fn SSL_set_psk_find_session_callback(ssl: *mut SSL, callback: Option<FindSession>);
    fn SSL_set_psk_use_session_callback(ssl: *mut SSL, callback: Option<UseSession>);
    fn SSL_CIPHER_find(ssl: *mut SSL, id: *const c_uchar) -> *const SSL_CIPHER;
    fn SSL_SESSION_new() -> *mut SSL_SESSION;
    fn SSL_SESSION_set1_master_key(session: *mut SSL_SESSION, key: *const c_uchar, len: usize) -> c_int;
    fn SSL_SESSION_set_cipher(session: *mut SSL_SESSION, cipher: *const SSL_CIPHER) -> c_int;
    fn SSL_SESSION_set_protocol_version(session: *mut SSL_SESSION, version: c_int) -> c_int;
}

const TLS1_3: c_int = 0x0304;

/// What never changes: settings for each suite, and where a connection keeps its key.
struct Library {
    key: Index<Ssl, Psk>,
    contexts: [SslContext; 2],
}

fn library() -> Result<&'static Library, Failed> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    let made = LIBRARY.get_or_init(|| {
        let make = || -> Result<Library, ErrorStack> {
            Ok(Library {
                key: Ssl::new_ex_index()?,
                contexts: [context(Suite::Aes128GcmSha256)?, context(Suite::Aes256GcmSha384)?],
            })
        };
        make().map_err(|error| error.to_string())
    });
    made.as_ref().map_err(|error| Failed::Library(error.clone()))
}

/// TLS 1.3 and one suite. A key without a fresh Diffie-Hellman exchange is not what OpenSSL offers unless it is told to.
fn context(suite: Suite) -> Result<SslContext, ErrorStack> {
    let mut context = SslContextBuilder::new(SslMethod::tls())?;
    context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_ciphersuites(suite.name())?;
    context.set_options(SslOptions::NO_TICKET | SslOptions::NO_COMPRESSION);
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_num_tickets(0)?;
    Ok(context.build())
}

/// One side of a connection.
pub struct Channel {
    stream: SslStream<Wire>,
    server: bool,
}

impl Channel {
    /// The side that is connected to. The client must have this key and call it so.
    pub fn server(psk: Psk) -> Result<Self, Failed> {
        Self::new(psk, true)
    }

    /// The side that connects.
    pub fn client(psk: Psk) -> Result<Self, Failed> {
        Self::new(psk, false)
    }

    fn new(psk: Psk, server: bool) -> Result<Self, Failed> {
        let library = library()?;
        let context = match psk.suite {
            Suite::Aes128GcmSha256 => &library.contexts[0],
            Suite::Aes256GcmSha384 => &library.contexts[1],
        };
        let mut ssl = Ssl::new(context).map_err(said)?;
        ssl.set_ex_data(library.key, psk);
        let raw = ssl.as_ptr();
        if server {
            ssl.set_accept_state();
            // SAFETY: [SIGNATURE], and the connection is live.
            unsafe { SSL_set_psk_find_session_callback(raw, Some(find_session)) };
        } else {
            ssl.set_connect_state();
            // SAFETY: [SIGNATURE], and the connection is live.
            unsafe { SSL_set_psk_use_session_callback(raw, Some(use_session)) };
        }
        let stream = SslStream::new(ssl, Wire::default()).map_err(said)?;
        Ok(Self { stream, server })
    }

    /// Bytes from the wire. They are kept until they are read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.stream.get_mut().feed(bytes);
    }

    /// Goes on with the handshake; true when it is done. After a failure the last bytes to send say why.
    pub fn handshake(&mut self) -> Result<bool, Failed> {
        let step = match self.server {
            true => self.stream.accept(),
            false => self.stream.connect(),
        };
        match step {
            Ok(()) => Ok(true),
            Err(error) if wants_more(error.code()) => Ok(false),
            Err(error) => Err(Failed::Library(error.to_string())),
        }
    }

    /// Plain bytes from the peer. May leave bytes to send: an answer to a key update, an alert.
    pub fn read(&mut self, into: &mut [u8]) -> Result<Read, Failed> {
        match self.stream.ssl_read(into) {
            Ok(n) => Ok(Read::Bytes(n)),
            Err(error) if wants_more(error.code()) => Ok(Read::Wait),
            Err(error) if error.code() == ErrorCode::ZERO_RETURN => Ok(Read::End),
            Err(error) => Err(Failed::Library(error.to_string())),
        }
    }

    /// Plain bytes to the peer, all of them.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Failed> {
        while !bytes.is_empty() {
            let n = self.stream.ssl_write(bytes);
            let n = n.map_err(|error| Failed::Library(error.to_string()))?;
            bytes = bytes.get(n..).unwrap_or_default();
        }
        Ok(())
    }

    /// Bytes for the wire.
    pub fn unsent(&self) -> &[u8] {
        &self.stream.get_ref().unsent
    }

    /// They have been taken.
    pub fn sent(&mut self) {
        self.stream.get_mut().unsent.clear();
    }

    /// Tells the peer that nothing more will come.
    pub fn close(&mut self) {
        // After a failure there is nothing to be told any more.
        let _ = self.stream.shutdown();
    }
}

fn wants_more(code: ErrorCode) -> bool {
    code == ErrorCode::WANT_READ || code == ErrorCode::WANT_WRITE
}

fn said(error: ErrorStack) -> Failed {
    Failed::Library(error.to_string())
}

/// The connection's key.
///
/// # Safety
/// [LIVE-SSL]
unsafe fn key_of<'a>(ssl: *mut SSL) -> Option<&'a Psk> {
    let library = library().ok()?;
    // SAFETY: [LIVE-SSL], and the key stays with the connection.
    unsafe { SslRef::from_ptr(ssl) }.ex_data(library.key)
}

/// A session that stands for an external key (`SSL_CTX_set_psk_use_session_callback(3)`); null if there is no memory.
fn session(ssl: *mut SSL, psk: &Psk) -> *mut SSL_SESSION {
    let id = psk.suite.id();
    // SAFETY: [SIGNATURE], [OWN-SESSION]: key and suite number are readable for as long as the calls take.
    unsafe {
        let session = SSL_SESSION_new();
        let cipher = SSL_CIPHER_find(ssl, id.as_ptr());
        if session.is_null() || cipher.is_null() {
            SSL_SESSION_free(session);
            return ptr::null_mut();
        }
        let made = SSL_SESSION_set1_master_key(session, psk.key.as_ptr(), psk.key.len()) == 1
            && SSL_SESSION_set_cipher(session, cipher) == 1
            && SSL_SESSION_set_protocol_version(session, TLS1_3) == 1;
        if made {
            return session;
        }
        SSL_SESSION_free(session);
        ptr::null_mut()
    }
}

/// A client offers `identity`: it is ours, or there is none.
unsafe extern "C" fn find_session(
    ssl: *mut SSL,
    identity: *const c_uchar,
    len: usize,
    found: *mut *mut SSL_SESSION,
) -> c_int {
    // SAFETY: [LIVE-SSL]: the identity has `len` bytes, and there is a place for the session, which takes it over ([OWN-SESSION]).
    unsafe {
        *found = ptr::null_mut();
        let Some(psk) = key_of(ssl) else { return 1 };
        if std::slice::from_raw_parts(identity, len) == psk.identity {
            *found = session(ssl, psk);
        }
    }
    1
}

/// Our key, unless a hash is wanted that it is not for.
unsafe extern "C" fn use_session(
    ssl: *mut SSL,
    _: *const EVP_MD,
    identity: *mut *const c_uchar,
    len: *mut usize,
    used: *mut *mut SSL_SESSION,
) -> c_int {
    // SAFETY: [LIVE-SSL]: three places to write to; the identity stays with the connection, the session is handed over ([OWN-SESSION]).
    unsafe {
        *used = ptr::null_mut();
        let Some(psk) = key_of(ssl) else { return 1 };
        *identity = psk.identity.as_ptr();
        *len = psk.identity.len();
        *used = session(ssl, psk);
    }
    1
}
