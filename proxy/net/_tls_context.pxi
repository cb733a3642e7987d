# Contexts: what sessions of one kind have in common (files, versions, verification, ALPN). Part of `_tls.pyx`, for the
# front thread only. A wrong file or a wrong combination ends here, with its path, not at the first handshake.

import ipaddress
import os

from libc.stdlib cimport malloc


cdef struct Protocols:       # ALPN names, each behind its length
    unsigned int n
    unsigned char names[256]


cdef int select_protocol(
    SSL *ssl, const unsigned char **out, unsigned char *out_n,
    const unsigned char *offered, unsigned int offered_n, void *arg,
) noexcept nogil:
    cdef Protocols *ours = <Protocols*>arg
    if SSL_select_next_proto(
        <unsigned char**>out, out_n, ours.names, ours.n, offered, offered_n
    ) == OPENSSL_NPN_NEGOTIATED:
        return SSL_TLSEXT_ERR_OK
    return SSL_TLSEXT_ERR_ALERT_FATAL     # no_application_protocol


cdef void free_protocols(void *ctx, void *p, CRYPTO_EX_DATA *data, int index, long n, void *arg) noexcept nogil:
    free(p)


cdef int no_passphrase(char *p, int n, int writing, void *arg) noexcept nogil:
    return -1                 # OpenSSL's own callback would ask on the terminal and wait for ever


# The list has to live as long as the SSL_CTX, which sessions keep alive beyond its Python object.
cdef int PROTOCOLS = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_protocols)
if PROTOCOLS < 0:
    raise MemoryError("OpenSSL cannot reserve context data")

cdef dict VERSIONS = {"1.2": TLS1_2_VERSION, "1.3": TLS1_3_VERSION}


cdef bytes readable(str path, str what):
    """`path` for C. OpenSSL's texts for a missing file do not name it; Python's do."""
    try:
        open(path, "rb").close()
    except OSError as error:
        raise TlsFileError(f"cannot read {what} {path}: {error.strerror}", path) from None
    return os.fsencode(path)


cdef bytes protocol_list(object names):
    encoded = [name.encode("ascii") for name in names]
    if any(not 0 < len(name) < 256 for name in encoded) or sum(len(name) + 1 for name in encoded) > 256:
        raise ValueError("ALPN names have 1 to 255 bytes, 255 together")
    return b"".join(bytes([len(name)]) + name for name in encoded)


cdef class Context:
    """What `ServerContext` and `ClientContext` share; not made by itself."""
    cdef SSL_CTX *ctx

    def __dealloc__(self):
        SSL_CTX_free(self.ctx)

    cdef int start(self, const SSL_METHOD *method, str minimum_version) except -1:
        if self.ctx != NULL:
            raise TypeError("a context is set up once; make a new one")
        if minimum_version not in VERSIONS:
            raise ValueError(f'minimum_version is "1.2" or "1.3", not {minimum_version!r}')
        clear_errors()
        self.ctx = SSL_CTX_new(method)
        if self.ctx == NULL:
            raise MemoryError(queued_error().decode())
        SSL_CTX_set_min_proto_version(self.ctx, VERSIONS[minimum_version])
        SSL_CTX_set_options(
            self.ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE)
        SSL_CTX_set_mode(self.ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
        SSL_CTX_set_session_cache_mode(self.ctx, SSL_SESS_CACHE_OFF)   # tickets need no memory of ours
        SSL_CTX_set_default_passwd_cb(self.ctx, no_passphrase)
        return 0

    cdef int use_certificate(self, str cert_file, str key_file) except -1:
        """Certificate chain and key of our own, which must belong together."""
        cdef bytes cert = readable(cert_file, "certificate")
        cdef bytes key = readable(key_file, "private key")
        cdef BIO *bio
        cdef EVP_PKEY *pkey
        clear_errors()
        if SSL_CTX_use_certificate_chain_file(self.ctx, cert) != 1:
            raise TlsFileError(f"no usable PEM certificate in {cert_file}: {queued_error().decode()}", cert_file)
        bio = BIO_new_file(key, "r")
        pkey = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) if bio != NULL else NULL
        BIO_free(bio)
        if pkey == NULL:
            raise TlsFileError(
                f"no usable PEM private key (without passphrase) in {key_file}: {queued_error().decode()}", key_file)
        try:
            if X509_check_private_key(SSL_CTX_get0_certificate(self.ctx), pkey) != 1:
                raise TlsFileError(
                    f"the private key {key_file} does not belong to the certificate {cert_file}", key_file)
            if SSL_CTX_use_PrivateKey(self.ctx, pkey) != 1:
                raise TlsFileError(f"cannot use the private key {key_file}: {queued_error().decode()}", key_file)
        finally:
            EVP_PKEY_free(pkey)
            clear_errors()
        return 0

    cdef int use_ca(self, str ca_file) except -1:
        cdef bytes path
        if ca_file == "system":
            if SSL_CTX_set_default_verify_paths(self.ctx) != 1:
                raise TlsError(f"cannot load the system's CA certificates: {queued_error().decode()}")
        else:
            path = readable(ca_file, "CA file")
            if SSL_CTX_load_verify_file(self.ctx, path) != 1:
                raise TlsFileError(
                    f"no usable PEM certificate in CA file {ca_file}: {queued_error().decode()}", ca_file)
        clear_errors()
        return 0

    cdef TlsSession open(self):
        cdef TlsSession session = TlsSession.__new__(TlsSession)
        session.t = tls_new(self.ctx)
        if session.t == NULL:
            raise MemoryError("TLS session")
        return session


cdef class ServerContext(Context):
    """We are the server. Renewed files need a new context; sessions of the old one go on.

    client_certificates: "none" (not asked for), "optional" (verified if sent), "required". ALPN: a client that offers
    protocols must offer one of ours; a client that offers none is let in with `alpn` None. Tickets are sealed with a
    key of this context: a client that comes back to another process makes a full handshake.
    """

    def __init__(
        self, str cert_file not None, str key_file not None, str client_ca_file=None,
        str client_certificates not None="none", str minimum_version not None="1.2", alpn=("postgresql",),
    ):
        cdef Protocols *ours
        cdef bytes names = protocol_list(alpn)
        cdef X509_NAME_STACK *authorities
        if client_certificates not in ("none", "optional", "required"):
            raise ValueError(f'client_certificates is "none", "optional" or "required", not {client_certificates!r}')
        self.start(TLS_server_method(), minimum_version)
        self.use_certificate(cert_file, key_file)
        SSL_CTX_set_num_tickets(self.ctx, 1)
        SSL_CTX_set_session_id_context(self.ctx, b"sluiceway", 9)   # resumption with client certificates needs one
        if client_certificates != "none":
            if client_ca_file is None:
                raise TlsError(f"client_certificates = {client_certificates} needs client_ca_file")
            self.use_ca(client_ca_file)
            if client_ca_file != "system":     # the names tell clients which of their certificates to send
                authorities = SSL_load_client_CA_file(os.fsencode(client_ca_file))
                if authorities == NULL:
                    raise TlsFileError(
                        f"cannot read CA names of {client_ca_file}: {queued_error().decode()}", client_ca_file)
                SSL_CTX_set_client_CA_list(self.ctx, authorities)
            SSL_CTX_set_verify(
                self.ctx,
                SSL_VERIFY_PEER | (SSL_VERIFY_FAIL_IF_NO_PEER_CERT if client_certificates == "required" else 0),
                NULL)
        if names:
            ours = <Protocols*>malloc(sizeof(Protocols))
            if ours == NULL or SSL_CTX_set_ex_data(self.ctx, PROTOCOLS, ours) != 1:
                free(ours)
                raise MemoryError("ALPN")
            ours.n = <unsigned int>len(names)
            memcpy(ours.names, PyBytes_AS_STRING(names), ours.n)
            SSL_CTX_set_alpn_select_cb(self.ctx, select_protocol, ours)
        clear_errors()

    def session(self, str server_name=None):
        cdef TlsSession session = self.open()
        SSL_set_accept_state(session.t.ssl)
        return session


cdef class ClientContext(Context):
    """We are the client, with libpq's `sslmode`: whether to use TLS is the caller's part, what to verify is ours.

    verify-ca: the chain. verify-full: the chain and the name. require: nothing, or with a CA file the chain (as libpq).
    Others: nothing. `ca_file="system"` means the system's CA certificates and, as in libpq, makes sense with
    verify-full only: with less, anybody's certificate would do.
    """
    cdef bint check_name

    def __init__(
        self, str sslmode not None, str ca_file=None, str cert_file=None, str key_file=None, alpn=(),
        str minimum_version not None="1.2",
    ):
        cdef bytes names = protocol_list(alpn)
        if sslmode not in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"):
            raise ValueError(f"unknown sslmode {sslmode!r}")
        if sslmode.startswith("verify-") and ca_file is None:
            raise TlsError(f"sslmode = {sslmode} needs ca_file")
        if ca_file == "system" and sslmode != "verify-full":
            raise TlsError(f'sslmode = {sslmode} is too weak for ca_file = "system": use verify-full')
        if (cert_file is None) != (key_file is None):
            raise TlsError("cert_file and key_file go together")
        self.start(TLS_client_method(), minimum_version)
        self.check_name = sslmode == "verify-full"
        if ca_file is not None and sslmode in ("require", "verify-ca", "verify-full"):
            self.use_ca(ca_file)
            SSL_CTX_set_verify(self.ctx, SSL_VERIFY_PEER, NULL)
        if cert_file is not None:
            self.use_certificate(cert_file, key_file)
        if names and SSL_CTX_set_alpn_protos(
            self.ctx, <const unsigned char*>PyBytes_AS_STRING(names), <unsigned int>len(names)
        ):
            raise MemoryError("ALPN")
        clear_errors()

    def session(self, str server_name=None):
        """`server_name` is what the configuration calls the server: SNI asks for it, verify-full checks it."""
        cdef TlsSession session
        cdef X509_VERIFY_PARAM *param
        cdef bytes name
        cdef bint literal
        if not server_name:
            if self.check_name:
                raise TlsError("sslmode = verify-full needs the server's name")
            name, literal = b"", True
        else:
            name, literal = host(server_name)
        session = self.open()
        SSL_set_connect_state(session.t.ssl)
        if name and not literal and SSL_set_tlsext_host_name(session.t.ssl, name) != 1:
            raise TlsError(f"not a host name: {server_name!r}")
        if self.check_name:
            param = SSL_get0_param(session.t.ssl)
            X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
            if not (
                X509_VERIFY_PARAM_set1_ip_asc(param, name) if literal
                else X509_VERIFY_PARAM_set1_host(param, name, len(name))
            ):
                clear_errors()
                raise TlsError(f"not a host name: {server_name!r}")   # never go on without the check that was asked for
        clear_errors()
        return session


cdef tuple host(str name):
    """The name as certificates spell it, and whether it is an address (which SNI must not carry)."""
    try:
        return str(ipaddress.ip_address(name.split("%", 1)[0])).encode(), True    # without an IPv6 zone
    except ValueError:
        pass
    if "\0" in name:
        raise TlsError(f"not a host name: {name!r}")
    try:
        return name.encode("ascii") if name.isascii() else name.encode("idna"), False
    except UnicodeError:
        raise TlsError(f"not a host name: {name!r}") from None
