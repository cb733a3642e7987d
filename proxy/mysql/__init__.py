"""The engines of MySQL and MariaDB: handshake, authentication, commands and answers. Sans-IO: bytes in, decisions out."""
