"""Signing in to the pages, with a key or as a Supabase user, and signing out."""

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from conversation import access, pages
from conversation.access import page_cookie
from conversation.access.credential_errors import TokenUnverifiable

blueprint = Blueprint("pages_sign_in", __name__)


@blueprint.get("/sign-in")
@access.open_page
def sign_in() -> Response:
    if "check" not in request.args:
        return _form()
    # redirected here after the cookie was set, to check that the browser sends it
    if page_cookie.browser_accepts_cookies(request):
        return pages.redirect(_local_path(request.args.get("next", "")))
    return _form("Your browser rejected the sign-in cookie. Allow cookies, and use HTTPS except on localhost.", 401)


@blueprint.post("/sign-in")
@access.open_page
def sign_in_with_key() -> Response:
    try:
        cookie = access.identification().sign_in(request, request.form.get("key", "").strip())
    except HTTPException as error:
        return _form(error.description, error.code or 401)
    return _signed_in(cookie, page_cookie.LIFETIME_S)


@blueprint.post("/sign-in/user")
@access.open_page
def sign_in_with_password() -> Response:
    try:
        user = access.identification().sign_in_user(
            request.form.get("mail", "").strip(), request.form.get("password", "")
        )
    except TokenUnverifiable:
        return _form("Supabase Auth can't be reached now; try again", 503)
    except HTTPException as error:
        return _form(error.description, error.code or 401)
    cookie = f"user:{user.token}"
    if not page_cookie.fits(cookie):
        return _form("This user's token is too long for a cookie, because it holds too much user_metadata", 403)
    return _signed_in(cookie, user.lifetime_s)


@blueprint.post("/sign-out")
@access.open_page
def sign_out() -> Response:
    access.identification().sign_out(request)
    response = pages.redirect_after_post("pages_sign_in.sign_in", message="signed-out")
    page_cookie.delete_cookie(response, request)
    return response


def _signed_in(cookie: str, lifetime_s: int) -> Response:
    response = pages.redirect_after_post(
        "pages_sign_in.sign_in", check=1, next=_local_path(request.form.get("next", ""))
    )
    page_cookie.set_cookie(response, request, cookie, lifetime_s)
    return response


def _form(error: str | None = None, status: int = 200) -> Response:
    return pages.render(
        "sign_in.html",
        status,
        error=error,
        next=_local_path(request.values.get("next", "")),
        password_sign_in=access.identification().password_sign_in is not None,
    )


def _local_path(path: str) -> str:
    """Return the path if it stays on this service, else the first page."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"
