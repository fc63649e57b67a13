"""Signing in to the pages with a key, and out."""

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from conversation import access, pages
from conversation.access import page_cookie
from conversation.access.errors import TokenUnverifiable

blueprint = Blueprint("pages_sign_in", __name__)


@blueprint.get("/sign-in")
@access.open_page
def sign_in() -> Response:
    if "kept" not in request.args:
        return _form()
    # the browser was given a cookie, and comes back to show it
    if page_cookie.browser_accepts_cookies(request):
        return pages.send_on(_own_path(request.args.get("next", "")))
    return _form("Your browser didn't keep the sign-in. It needs cookies, and TLS unless this is localhost.", 401)


@blueprint.post("/sign-in")
@access.open_page
def take_key() -> Response:
    try:
        cookie = access.identification().sign_in(request, request.form.get("key", "").strip())
    except HTTPException as refusal:
        return _form(refusal.description, refusal.code or 401)
    return _signed_in(cookie, page_cookie.LIFETIME_S)


@blueprint.post("/sign-in/user")
@access.open_page
def take_password() -> Response:
    try:
        user = access.identification().sign_in_user(
            request.form.get("mail", "").strip(), request.form.get("password", "")
        )
    except TokenUnverifiable:
        return _form("Supabase's sign-in can't be reached now; try again", 503)
    except HTTPException as refusal:
        return _form(refusal.description, refusal.code or 401)
    cookie = f"user:{user.token}"
    if not page_cookie.fits(cookie):
        return _form("The token of this user is too long for a cookie: it holds too much user_metadata", 403)
    return _signed_in(cookie, user.lifetime_s)


@blueprint.post("/sign-out")
@access.open_page
def sign_out() -> Response:
    answer = pages.go("pages_sign_in.sign_in", said="signed-out")
    page_cookie.delete_cookie(answer, request)
    return answer


def _signed_in(cookie: str, lifetime_s: int) -> Response:
    answer = pages.go("pages_sign_in.sign_in", kept=1, next=_own_path(request.form.get("next", "")))
    page_cookie.set_cookie(answer, request, cookie, lifetime_s)
    return answer


def _form(refusal: str | None = None, status: int = 200) -> Response:
    return pages.render(
        "sign_in.html",
        status,
        refusal=refusal,
        next=_own_path(request.values.get("next", "")),
        password_sign_in=access.identification().password_sign_in is not None,
    )


def _own_path(path: str) -> str:
    """Return a path of this service; the first page for what would lead elsewhere."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"
