"""Asking for builds: by people, and by schedules."""

from typing import Final

from imagefactory.errors import StateConflict
from imagefactory.model.job import ENDS, JobOrder, JobState, NewTask, Role
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.store.jobs import Jobs
from imagefactory.store.tables import Job

PLAN: Final = NewTask(Role.BUILD, "plan")
"""What every build begins with."""
EXPIRIES: Final = "expiries"
"""The step of those who sign that says when their keys expire."""


def order_of(loaded: LoadedRecipe, reason: str, account: str, *, fresh: bool = False, publish: bool = True) -> JobOrder:
    """A recipe as it is asked for; workers find it under the same path."""
    recipe_file = str(loaded.files[0].absolute())
    return JobOrder(loaded.recipe.name, recipe_file, loaded.digest, reason, account, fresh, publish)


def require_ended(job: Job) -> None:
    """Raises StateConflict for a job that goes on."""
    if JobState(job.state) not in ENDS:
        raise StateConflict(f"job {job.id[:8]} is {job.state}", advice=f"imagefactory builds cancel {job.id[:8]}")


def again(jobs: Jobs, job: Job, loaded: LoadedRecipe, account: str) -> Job:
    """Ask for what a job was to do, as its recipe is now: what was finished is not done again. Raises StateConflict
    when it goes on."""
    require_ended(job)
    order = order_of(loaded, f"again: {job.reason}", account, fresh=job.fresh, publish=job.publish)
    asked, _ = jobs.request(order, PLAN, repeats=job.id, told=False)
    return asked
