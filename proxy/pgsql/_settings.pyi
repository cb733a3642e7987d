"""The settings of a session as an interned set, and the SQL that turns one set into another."""

class SettingsDoor:
    @staticmethod
    def replay(was: dict[bytes, bytes], want: dict[bytes, bytes], in_transaction: bool = False) -> tuple[int, bytes]: ...
