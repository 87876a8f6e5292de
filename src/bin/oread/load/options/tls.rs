//! TLS as typed and as checked: whom to trust, by which name, and as whom.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use rustls::client::{Resumption, WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use crate::failure::Failure;
use crate::load::exchange::tls::{AnyCertificate, SignedOrNamed, Tickets};
use crate::load::options::url::{Protocol, Url};
use crate::values::address::{HostPort, Remote};
use crate::values::target::Transport;

/// What to do where the system trusts nobody, or a server is trusted by nobody.
const NAME_ONE: &str = "name a file of certificates with --tls-ca, or take any with --insecure";

/// Options of TLS.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "TLS, for tls:// and https://")]
pub(crate) struct TlsArgs {
    /// Trust the certificates of this PEM file, in place of those that the system trusts
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// Take any certificate: nobody knows then who answers
    #[arg(long)]
    pub(crate) insecure: bool,

    /// The name that is asked for (SNI), and that the certificate must be for [default: the
    /// target's host]
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    pub(crate) tls_name: Option<ServerName<'static>>,

    /// Whether a connection resumes the session of an earlier one: on or off, where each is a
    /// client of its own, with a whole handshake
    #[arg(long, value_name = "WHETHER", default_value = "off")]
    pub(crate) tls_resume: Resume,

    /// A PEM file with the certificate to show to the server, and those that have signed it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// A PEM file with that certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// Whether sessions are resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resume {
    On,
    #[default]
    Off,
}

/// How the targets over TLS are spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: ClientConfig,
    resume: Resume,
    /// The name of each target; `None`: it's not spoken to over TLS.
    names: Vec<Option<ServerName<'static>>>,
    /// Whether any certificate is taken.
    pub(crate) is_insecure: bool,
}

impl Tls {
    /// What is meant by what was typed; `None` where no target takes it.
    ///
    /// # Errors
    /// Exit code 2: a file that is none, or an option without a target that it's for.
    pub(crate) fn new(typed: &TlsArgs, targets: &[Url]) -> Result<Option<Tls>, Failure> {
        let is_tls = |url: &Url| url.target.transport == Transport::Tls;
        if !targets.iter().any(is_tls) {
            return match typed.given() {
                Some(option) => {
                    let words = format!("{option} is for TLS, and no target is spoken to over it");
                    let tip = "write the target as tls://HOST:PORT or https://HOST/PATH";
                    Err(Failure::usage(words).hint(tip))
                }
                None => Ok(None),
            };
        }
        let mut config = config(typed)?;
        let has_http = |url: &Url| matches!(url.protocol, Some(Protocol::Http { .. }));
        if targets.iter().any(has_http) {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let name = |url| match is_tls(url) {
            true => name(typed, &url.target.address).map(Some),
            false => Ok(None),
        };
        Ok(Some(Tls {
            config,
            resume: typed.tls_resume,
            names: targets.iter().map(name).collect::<Result<_, _>>()?,
            is_insecure: typed.insecure,
        }))
    }

    /// What connections of one thread have in common: a thread resumes its own sessions. And the
    /// name of each target.
    pub(crate) fn client(&self) -> (Arc<ClientConfig>, Vec<Option<ServerName<'static>>>) {
        let mut config = self.config.clone();
        config.resumption = match self.resume {
            Resume::On => Resumption::store(Arc::new(Tickets::new())),
            Resume::Off => Resumption::disabled(),
        };
        (Arc::new(config), self.names.clone())
    }
}

impl TlsArgs {
    /// The first option that was given.
    fn given(&self) -> Option<&'static str> {
        let given = [
            (self.tls_ca.is_some(), "--tls-ca"),
            (self.insecure, "--insecure"),
            (self.tls_name.is_some(), "--tls-name"),
            (self.tls_resume == Resume::On, "--tls-resume"),
            (self.tls_cert.is_some(), "--tls-cert"),
        ];
        given
            .into_iter()
            .find_map(|(is, option)| is.then_some(option))
    }
}

/// A name that a certificate may be for.
fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned());
    name.map_err(|_| "not a name of a server; write it as in www.example.org, or an address".into())
}

/// The name that a target's certificate must be for.
fn name(typed: &TlsArgs, address: &Remote) -> Result<ServerName<'static>, Failure> {
    match (&typed.tls_name, address) {
        (Some(name), _) => Ok(name.clone()),
        (_, Remote::Inet(HostPort::Numeric(address))) => Ok(address.ip().into()),
        (_, Remote::Inet(HostPort::Name { host, .. })) => server_name(host).map_err(|_| {
            let words = format!("no certificate can be for {}", host.escape_debug());
            Failure::usage(words).hint("say which name it is for with --tls-name")
        }),
        (_, Remote::Unix(_)) => Err(Failure::usage("TLS is not spoken over a Unix socket")),
    }
}

fn config(typed: &TlsArgs) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::runtime(format!("TLS can't be had: {error}")))?;
    let builder = match &typed.tls_ca {
        _ if typed.insecure => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(
                provider.signature_verification_algorithms,
            ))),
        Some(path) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(signers_of(path, &provider)?)),
        None => builder.with_root_certificates(roots_of_system()?),
    };
    with_client(typed, builder, &provider)
}

/// Whom a file says to trust.
fn signers_of(path: &Path, provider: &Arc<CryptoProvider>) -> Result<SignedOrNamed, Failure> {
    let bad = |why: &dyn Display| bad_file("--tls-ca", path, &why.to_string());
    let mut roots = RootCertStore::empty();
    let named = certificates("--tls-ca", path)?;
    for certificate in &named {
        roots.add(certificate.clone()).map_err(|why| bad(&why))?;
    }
    let signed =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let signed = signed.map_err(|why| bad(&why))?;
    Ok(SignedOrNamed { signed, named })
}

/// Whom the system trusts. What of it rustls does not take is left out, as by all others.
fn roots_of_system() -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (taken, left_out) = roots.add_parsable_certificates(found.certs);
    log::debug!("the system trusts {taken} certificates, {left_out} others are not understood");
    if roots.is_empty() {
        let why = found.errors.first();
        let why = why.map_or_else(String::new, |error| format!(": {error}"));
        let words = format!("no certificates that the system trusts were found{why}");
        return Err(Failure::usage(words).hint(NAME_ONE));
    }
    Ok(roots)
}

/// The client's own certificate, if it has one.
fn with_client(
    typed: &TlsArgs,
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    provider: &CryptoProvider,
) -> Result<ClientConfig, Failure> {
    let (Some(cert), Some(key)) = (&typed.tls_cert, &typed.tls_key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("--tls-cert", cert)?;
    let bad_key = |why: &str| bad_file("--tls-key", key, why);
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| bad_key(&words_of(error)))?;
    // First by itself, so that the file that is wrong is named.
    let is_known = provider.key_provider.load_private_key(secret.clone_key());
    is_known.map_err(|error| bad_key(&error.to_string()))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|error| bad_file("--tls-cert", cert, &error.to_string()))
}

/// All certificates of a PEM file, one at least.
fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if all.is_empty() => Err(bad_file(option, path, "there is no certificate in it")),
        Ok(all) => Ok(all),
        Err(error) => Err(bad_file(option, path, &words_of(error))),
    }
}

fn bad_file(option: &str, path: &Path, why: &str) -> Failure {
    let words = format!("{option} {} can't be used: {why}", path.display());
    Failure::usage(words).hint("give it a PEM file, which has lines as -----BEGIN CERTIFICATE-----")
}

/// Why a PEM file is none.
fn words_of(error: rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => crate::failure::Reason(&error).to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => "there is no key in it".to_owned(),
        error => error.to_string(),
    }
}
