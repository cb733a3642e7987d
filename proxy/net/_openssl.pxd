# The part of OpenSSL 3's libssl and libcrypto that `_tls` calls. Declarations only.

from libc.stdint cimport uint64_t

cdef extern from "openssl/err.h" nogil:
    unsigned long ERR_get_error()
    unsigned long ERR_peek_error()
    void ERR_clear_error()
    const char *ERR_reason_error_string(unsigned long code)
    int ERR_GET_REASON(unsigned long code)
    int ERR_GET_LIB(unsigned long code)
    enum:
        ERR_LIB_SSL

cdef extern from "openssl/crypto.h" nogil:
    ctypedef struct CRYPTO_EX_DATA:
        pass
    void *OPENSSL_malloc(size_t n)
    void OPENSSL_free(void *p)

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_MD:
        pass
    ctypedef struct EVP_PKEY:
        pass
    enum:
        EVP_MAX_MD_SIZE
        NID_undef
        NID_md5
        NID_sha1
        NID_sha256
        NID_commonName
    const EVP_MD *EVP_get_digestbynid(int nid)
    void EVP_PKEY_free(EVP_PKEY *key)

cdef extern from "openssl/bio.h" nogil:
    ctypedef struct BIO:
        pass
    ctypedef struct BIO_METHOD:
        pass
    enum:
        BIO_TYPE_SOURCE_SINK
        BIO_CTRL_FLUSH
        BIO_CTRL_PENDING
        BIO_CTRL_WPENDING
    int BIO_get_new_index()
    BIO_METHOD *BIO_meth_new(int kind, const char *name)
    int BIO_meth_set_read(BIO_METHOD *m, int (*read)(BIO *, char *, int) noexcept nogil)
    int BIO_meth_set_write(BIO_METHOD *m, int (*write)(BIO *, const char *, int) noexcept nogil)
    int BIO_meth_set_ctrl(BIO_METHOD *m, long (*ctrl)(BIO *, int, long, void *) noexcept nogil)
    BIO *BIO_new(const BIO_METHOD *m)
    BIO *BIO_new_file(const char *path, const char *mode)
    int BIO_free(BIO *b)
    void BIO_set_data(BIO *b, void *p)
    void *BIO_get_data(BIO *b)
    void BIO_set_init(BIO *b, int on)
    void BIO_set_retry_read(BIO *b)
    void BIO_clear_retry_flags(BIO *b)

cdef extern from "openssl/x509v3.h" nogil:
    ctypedef struct X509:
        pass
    ctypedef struct X509_NAME:
        pass
    ctypedef struct X509_NAME_ENTRY:
        pass
    ctypedef struct X509_STORE_CTX:
        pass
    ctypedef struct X509_VERIFY_PARAM:
        pass
    ctypedef struct ASN1_STRING:
        pass
    unsigned int X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS
    int i2d_X509(X509 *cert, unsigned char **out)
    int X509_digest(const X509 *cert, const EVP_MD *md, unsigned char *out, unsigned int *n)
    int X509_get_signature_info(X509 *cert, int *md_nid, int *key_nid, int *bits, unsigned int *flags)
    int X509_check_private_key(const X509 *cert, const EVP_PKEY *key)
    X509_NAME *X509_get_subject_name(const X509 *cert)
    int X509_NAME_get_index_by_NID(const X509_NAME *name, int nid, int after)
    X509_NAME_ENTRY *X509_NAME_get_entry(const X509_NAME *name, int at)
    ASN1_STRING *X509_NAME_ENTRY_get_data(const X509_NAME_ENTRY *entry)
    int ASN1_STRING_to_UTF8(unsigned char **out, const ASN1_STRING *text)
    const char *X509_verify_cert_error_string(long code)
    void X509_VERIFY_PARAM_set_hostflags(X509_VERIFY_PARAM *p, unsigned int flags)
    int X509_VERIFY_PARAM_set1_host(X509_VERIFY_PARAM *p, const char *name, size_t n)
    int X509_VERIFY_PARAM_set1_ip_asc(X509_VERIFY_PARAM *p, const char *address)

cdef extern from "openssl/pem.h" nogil:
    EVP_PKEY *PEM_read_bio_PrivateKey(
        BIO *b, EVP_PKEY **key, int (*ask)(char *, int, int, void *) noexcept nogil, void *arg)

cdef extern from "openssl/ssl.h" nogil:
    ctypedef struct SSL:
        pass
    ctypedef struct SSL_CTX:
        pass
    ctypedef struct SSL_METHOD:
        pass
    ctypedef struct SSL_CIPHER:
        pass
    ctypedef struct X509_NAME_STACK "STACK_OF(X509_NAME)":
        pass
    const uint64_t SSL_OP_NO_RENEGOTIATION
    const uint64_t SSL_OP_NO_COMPRESSION
    const uint64_t SSL_OP_CIPHER_SERVER_PREFERENCE
    enum:
        SSL_MODE_RELEASE_BUFFERS
        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
        SSL_SESS_CACHE_OFF
        SSL_VERIFY_NONE
        SSL_VERIFY_PEER
        SSL_VERIFY_FAIL_IF_NO_PEER_CERT
        SSL_ERROR_WANT_READ
        SSL_ERROR_WANT_WRITE
        SSL_ERROR_ZERO_RETURN
        SSL_R_CERTIFICATE_VERIFY_FAILED
        SSL_TLSEXT_ERR_OK
        SSL_TLSEXT_ERR_ALERT_FATAL
        OPENSSL_NPN_NEGOTIATED
        SSL_KEY_UPDATE_REQUESTED
        TLS1_2_VERSION
        TLS1_3_VERSION

    const SSL_METHOD *TLS_server_method()
    const SSL_METHOD *TLS_client_method()
    SSL_CTX *SSL_CTX_new(const SSL_METHOD *m)
    void SSL_CTX_free(SSL_CTX *ctx)
    uint64_t SSL_CTX_set_options(SSL_CTX *ctx, uint64_t options)
    long SSL_CTX_set_mode(SSL_CTX *ctx, long mode)
    long SSL_CTX_set_session_cache_mode(SSL_CTX *ctx, long mode)
    int SSL_CTX_set_num_tickets(SSL_CTX *ctx, size_t n)
    int SSL_CTX_set_session_id_context(SSL_CTX *ctx, const unsigned char *p, unsigned int n)
    int SSL_CTX_set_min_proto_version(SSL_CTX *ctx, int version)
    int SSL_CTX_use_certificate_chain_file(SSL_CTX *ctx, const char *path)
    int SSL_CTX_use_PrivateKey(SSL_CTX *ctx, EVP_PKEY *key)
    X509 *SSL_CTX_get0_certificate(const SSL_CTX *ctx)
    int SSL_CTX_load_verify_file(SSL_CTX *ctx, const char *path)
    int SSL_CTX_set_default_verify_paths(SSL_CTX *ctx)
    void SSL_CTX_set_verify(SSL_CTX *ctx, int mode, int (*callback)(int, X509_STORE_CTX *) noexcept nogil)
    X509_NAME_STACK *SSL_load_client_CA_file(const char *path)
    void SSL_CTX_set_client_CA_list(SSL_CTX *ctx, X509_NAME_STACK *names)
    void SSL_CTX_set_default_passwd_cb(SSL_CTX *ctx, int (*ask)(char *, int, int, void *) noexcept nogil)
    int SSL_CTX_set_alpn_protos(SSL_CTX *ctx, const unsigned char *p, unsigned int n)
    void SSL_CTX_set_alpn_select_cb(
        SSL_CTX *ctx,
        int (*select)(
            SSL *, const unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *) noexcept nogil,
        void *arg)
    int SSL_select_next_proto(
        unsigned char **out, unsigned char *n, const unsigned char *ours, unsigned int ours_n,
        const unsigned char *theirs, unsigned int theirs_n)
    int SSL_CTX_get_ex_new_index(
        long argl, void *argp, void *new, void *dup,
        void (*free)(void *, void *, CRYPTO_EX_DATA *, int, long, void *) noexcept nogil)
    int SSL_CTX_set_ex_data(SSL_CTX *ctx, int index, void *p)

    SSL *SSL_new(SSL_CTX *ctx)
    void SSL_free(SSL *ssl)
    void SSL_set_bio(SSL *ssl, BIO *read, BIO *write)
    void SSL_set_accept_state(SSL *ssl)
    void SSL_set_connect_state(SSL *ssl)
    long SSL_set_tlsext_host_name(SSL *ssl, const char *name)
    X509_VERIFY_PARAM *SSL_get0_param(SSL *ssl)
    int SSL_do_handshake(SSL *ssl)
    int SSL_read_ex(SSL *ssl, void *p, size_t n, size_t *got)
    int SSL_write_ex(SSL *ssl, const void *p, size_t n, size_t *done)
    int SSL_pending(const SSL *ssl)
    int SSL_shutdown(SSL *ssl)
    int SSL_get_error(const SSL *ssl, int result)
    int SSL_in_init(const SSL *ssl)
    int SSL_is_init_finished(const SSL *ssl)
    int SSL_session_reused(const SSL *ssl)
    int SSL_key_update(SSL *ssl, int kind)
    long SSL_set_max_send_fragment(SSL *ssl, long n)
    long SSL_get_verify_result(const SSL *ssl)
    const char *SSL_get_version(const SSL *ssl)
    const SSL_CIPHER *SSL_get_current_cipher(const SSL *ssl)
    const char *SSL_CIPHER_get_name(const SSL_CIPHER *cipher)
    void SSL_get0_alpn_selected(const SSL *ssl, const unsigned char **p, unsigned int *n)
    X509 *SSL_get_certificate(const SSL *ssl)
    X509 *SSL_get0_peer_certificate(const SSL *ssl)
