"""The engines of MySQL and MariaDB: handshake, authentication, commands and their answers. Sans-IO: bytes in, decisions out."""
