from django.urls import path

from tests.peers.shop.views import OrdersView

urlpatterns = [path("api/v1/orders/", OrdersView.as_view())]
