from django.contrib.auth.management.commands import createsuperuser


class Command(createsuperuser.Command):
    # By the constraint user_email_unique, in any case. Django looks for one on the plain column, and answers an e-mail
    # that is taken with a traceback without it.
    username_is_unique = True
