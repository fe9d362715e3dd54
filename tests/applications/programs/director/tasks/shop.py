from director import task


@task(name="EXTRACT")
def extract(*args, **kwargs):
    return list(range(10))


@task(name="TRANSFORM")
def transform(*args, **kwargs):
    return sum(args[0])


@task(name="COUNT")
def count(*args, **kwargs):
    return len(args[0])


@task(name="STORE")
def store(*args, **kwargs):
    return args[0]


@task(name="BREAK")
def fail(*args, **kwargs):
    raise ValueError("broken")


@task(name="REPORT")
def report(*args, **kwargs):
    return "reported"
