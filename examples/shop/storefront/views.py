"""Pages for people and a JSON API for programs.

The API takes a task's arguments as a JSON object, starts it and answers with its id. There is no CSRF protection
because there is nothing to forge: the shop has no sessions and no accounts.
"""

import inspect
import json
from dataclasses import dataclass

from celery import Task, current_app
from celery.result import AsyncResult
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from storefront import catalogue, tasks

# What may be started from outside, by name.
STARTABLE: dict[str, Task] = {
    "notify": tasks.notify,
    "crawl": tasks.crawl,
    "charge": tasks.charge,
    "pack": tasks.pack,
    "ask_supplier": tasks.ask_supplier,
    "label": tasks.label,
}


@dataclass(frozen=True)
class TaskElsewhere:
    """A task of another application, of which only the name and the queue are known."""

    task: str
    queue: str


ELSEWHERE = {"render": TaskElsewhere("reports.render", "reports")}


@require_GET
def front_page(request: HttpRequest) -> HttpResponse:
    """The page with the buttons."""
    context = {"products": catalogue.PAGES[0], "window": settings.NOTIFY_WINDOW_SECONDS, "links": settings.LINKS}
    return render(request, "storefront/index.html", context)


@require_GET
def catalogue_page(request: HttpRequest, page: int) -> HttpResponse:
    """One page of products, with a link to the next; what `crawl` reads."""
    if not 1 <= page <= len(catalogue.PAGES):
        raise Http404(f"there are {len(catalogue.PAGES)} pages")
    following = page + 1 if page < len(catalogue.PAGES) else None
    context = {"products": catalogue.PAGES[page - 1], "page": page, "following": following}
    return render(request, "storefront/catalogue.html", context)


@require_GET
def health(request: HttpRequest) -> HttpResponse:
    """Answers as long as the web server does."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_POST
def start_task(request: HttpRequest, name: str) -> JsonResponse:
    """Start a task with the JSON object in the body as its arguments."""
    try:
        arguments = json.loads(request.body or b"{}")
    except ValueError as error:
        return JsonResponse({"error": f"the body is not JSON: {error}"}, status=400)
    if not isinstance(arguments, dict):
        return JsonResponse({"error": "the body is not a JSON object"}, status=400)
    if name in ELSEWHERE:
        result = current_app.send_task(ELSEWHERE[name].task, kwargs=arguments, queue=ELSEWHERE[name].queue)
        return JsonResponse({"id": result.id, "task": ELSEWHERE[name].task}, status=202)
    if name not in STARTABLE:
        known = ", ".join([*STARTABLE, *ELSEWHERE])
        return JsonResponse({"error": f"no task {name}; there are: {known}"}, status=404)
    task = STARTABLE[name]
    try:
        inspect.signature(task.run).bind(**arguments)
    except TypeError as error:
        return JsonResponse({"error": f"arguments of {name}: {error}"}, status=400)
    result = task.apply_async(kwargs=arguments)
    return JsonResponse({"id": result.id, "task": task.name}, status=202)


@require_GET
def show_result(request: HttpRequest, task_id: str) -> JsonResponse:
    """What is known of a task: its state, its result or its error, and when it was done."""
    result = AsyncResult(str(task_id))
    done = result.date_done
    answer: dict[str, object] = {
        "id": str(task_id),
        "state": result.state,
        "task": result.name,
        "worker": result.worker,
        "done": done.isoformat() if done is not None and hasattr(done, "isoformat") else done,
    }
    if result.successful():
        answer["result"] = result.result
    elif result.failed():
        answer["error"] = f"{type(result.result).__name__}: {result.result}"
    return JsonResponse(answer)
