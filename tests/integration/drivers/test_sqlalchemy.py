"""SQLAlchemy over psycopg, asyncpg, pg8000: ORM round trip, savepoints, two-phase, reflection, streams, pool reset."""

import asyncio
import ssl
from typing import Any

import pytest
from sqlalchemy import URL, Engine, ForeignKey, create_engine, event, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from tests.integration.drivers.sides import APPLICATION, Say, Script, Side, Sides


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def url(side: Side, driver: str) -> URL:
    return URL.create(f"postgresql+{driver}", side.user, side.password, side.host, side.port, side.database)


def arguments(side: Side, driver: str) -> dict[str, Any]:
    if driver == "psycopg":
        return {"sslmode": "verify-full", "sslrootcert": str(side.ca), "application_name": APPLICATION}
    context = ssl.create_default_context(cafile=str(side.ca))
    if driver == "asyncpg":
        return {"ssl": context, "server_settings": {"application_name": APPLICATION}}
    return {"ssl_context": context, "application_name": APPLICATION}


def round_trip(say: Say, session: Session) -> None:
    session.add_all(
        Author(name=f"author {n}", books=[Book(title=f"book {n}.{k}") for k in range(n)]) for n in range(12)
    )
    session.commit()
    for author in session.scalars(select(Author).options(selectinload(Author.books)).order_by(Author.id)):
        say(author.id, author.name, [(book.id, book.title) for book in author.books])
    author = session.scalars(select(Author).where(Author.name == "author 5")).one()
    author.books.pop()
    author.name = "renamed"
    session.commit()
    try:
        with session.begin_nested():
            session.add(Author(name="renamed"))
            session.flush()
    except IntegrityError as error:
        say(type(error.orig).__name__, str(error.orig).splitlines()[0])
    with session.begin_nested():
        session.add(Author(name="nested"))
    session.delete(session.scalars(select(Author).where(Author.name == "author 3")).one())
    session.commit()
    counted = select(Author.name, func.count(Book.id)).outerjoin(Book).group_by(Author.name).order_by(Author.name)
    say(session.execute(counted).all())
    session.rollback()


def engine_facts(say: Say, engine: Engine) -> None:
    with engine.connect() as conn:
        for table in sorted(inspect(conn).get_table_names()):
            say(table, [(c["name"], str(c["type"]), c["nullable"]) for c in inspect(conn).get_columns(table)])
            say(inspect(conn).get_foreign_keys(table), inspect(conn).get_indexes(table))
    with engine.connect() as conn:
        conn.execute(text("create table left_open (n int)"))  # never committed: the pool rolls back
    with engine.connect() as conn:
        say(inspect(conn).has_table("left_open"))
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as conn:
        say(conn.scalar(text("show transaction_isolation")))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        say(conn.scalar(text("show transaction_isolation")))
    with engine.connect() as conn, conn.execution_options(stream_results=True, max_row_buffer=50) as streaming:
        say(sum(row[0] for row in streaming.execute(text("select generate_series(1, 3000)"))))
    for _ in range(3):
        try:
            with engine.begin() as conn:
                conn.execute(text("select 1/0"))
        except DBAPIError as error:
            say(type(error.orig).__name__, error.connection_invalidated)
    with engine.connect() as conn:
        say(conn.scalar(text("select 'alive'")))


def sync_script(driver: str) -> Script:
    def script(say: Say, side: Side) -> None:
        engine = create_engine(
            url(side, driver), connect_args=arguments(side, driver), pool_size=2, max_overflow=0, pool_pre_ping=True
        )
        statements: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
        try:
            Base.metadata.create_all(engine)
            with Session(engine) as session:
                round_trip(say, session)
            engine_facts(say, engine)
            with engine.connect() as conn:
                transaction = conn.begin_twophase("two phase")
                conn.execute(text("insert into author (name) values ('prepared')"))
                transaction.prepare()
                transaction.commit()
            Base.metadata.drop_all(engine)
            say(len(statements))
        finally:
            engine.dispose()

    script.__qualname__ = f"sync[{driver}]"
    return script


def async_script(driver: str) -> Script:
    async def run(say: Say, side: Side) -> None:
        engine = create_async_engine(
            url(side, driver), connect_args=arguments(side, driver), pool_size=2, max_overflow=0, pool_pre_ping=True
        )
        try:
            async with engine.begin() as conn:
                await conn.run_sync(Base.metadata.create_all)
            async with AsyncSession(engine) as session:
                await session.run_sync(lambda inner: round_trip(say, inner))
            async with engine.connect() as conn:
                result = await conn.stream(text("select generate_series(1, 3000)"))
                say(sum([row[0] async for row in result]))

            async def one(n: int) -> int:
                async with AsyncSession(engine) as session:
                    found = await session.scalar(select(func.count(Author.id)).where(Author.id > n))
                    await session.rollback()
                    return found or 0

            say(await asyncio.gather(*(one(n) for n in range(20))))
        finally:
            await engine.dispose()

    def script(say: Say, side: Side) -> None:
        asyncio.run(run(say, side))

    script.__qualname__ = f"async[{driver}]"
    return script


@pytest.mark.parametrize("driver", ["psycopg", "pg8000"])
def test_sqlalchemy_prints_the_same(driver: str, sides: Sides) -> None:
    sides.same(sync_script(driver))


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_sqlalchemy_async_prints_the_same(driver: str, sides: Sides) -> None:
    sides.same(async_script(driver))
