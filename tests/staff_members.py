"""Staff for tests, put straight into the database."""


async def add_person(connection, name, role="reviewer", **columns):
    """staff.number of somebody new."""
    columns = {"name": name, "shown_as": f"员工 {name}", "role": role, **columns}
    values = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    return await connection.fetchval(
        f"INSERT INTO staff ({', '.join(columns)}) VALUES ({values}) RETURNING number",
        *columns.values(),
    )
