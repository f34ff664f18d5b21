from django.urls import path

from tests.peers.saboteur.views import dispatch
from tests.peers.shop.urls import urlpatterns as shop

urlpatterns = [path("chaos/", dispatch), *shop]
