"""The engines of MySQL and MariaDB: logins, commands and answers. Sans-IO: bytes in, decisions out."""
